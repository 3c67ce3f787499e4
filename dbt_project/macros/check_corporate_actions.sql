{#- corporate_actions.csv is edited by people: a line that cannot be right stops the build before anything is written,
    and is named by its number. Asked of the file, since rows of a seed have no line numbers; other engines have the
    tests of the seed. -#}
{% macro check_corporate_actions() -%}
  {%- if not execute -%}{{ return('') }}{%- endif -%}
  {%- set seed = graph.nodes.values() | selectattr('resource_type', 'equalto', 'seed') | selectattr('name', 'equalto', 'corporate_actions') | first -%}
  {%- if not seed -%}
    {{ exceptions.raise_compiler_error('no corporate_actions.csv in the folder of the seeds: name that folder in CHAINLAKE_SEEDS') }}
  {%- endif -%}
  {%- set query = adapter.dispatch('wrong_actions', 'chainlake')(adapter.get_seed_file_path(seed), seed.config.column_types.keys() | list) -%}
  {%- set wrong = run_query(query).rows if query else [] -%}
  {%- if wrong -%}
    {{ exceptions.raise_compiler_error(
      'corporate_actions.csv, line ' ~ wrong[0][0] ~ ': ' ~ wrong[0][1]
      ~ (' (and ' ~ (wrong | length - 1) ~ ' more lines are wrong)' if wrong | length > 1 else '')
      ~ '; nothing was built: correct the file and run again'
    ) }}
  {%- endif -%}
  {{ return('') }}
{%- endmacro %}

{#- A query for the lines of `file` that cannot be right: line and problem, in the order of the file. -#}
{% macro default__wrong_actions(file, columns) -%}
  {%- set path = file | replace("'", "''") -%}
  with

  lines as (
    select
      generate_subscripts(string_split(content, chr(10)), 1) as line,
      rtrim(unnest(string_split(content, chr(10))), chr(13)) as content
    from read_text('{{ path }}')
  ),

  -- The reader of CSV skips empty lines.
  numbered as (
    select line, content, row_number() over (order by line) - 1 as position
    from lines where coalesce(trim(content), '') <> ''
  ),

  records as (
    select row_number() over () as position, *
    from read_csv('{{ path }}', auto_detect = false, header = false, skip = 0, delim = ',', quote = '"', escape = '"',
      null_padding = true, strict_mode = false,
      columns = { {%- for column in columns %}'{{ column }}': 'varchar', {% endfor -%} 'more': 'varchar'})
  ),

  cleaned as (
    select
      numbered.line,
      numbered.content,
      numbered.position = 0 as is_header,
      replace(trim(records.symbol), '.', ' ') as symbol,
      trim(records.event_type) as event_type,
      records.effective_date,
      try_cast(records.effective_date as date) as effective,
      records.ratio_new,
      try_cast(records.ratio_new as double) as new,
      records.ratio_old,
      try_cast(records.ratio_old as double) as old,
      records.cash_amount,
      try_cast(records.cash_amount as double) as cash,
      replace(trim(records.new_symbol), '.', ' ') as new_symbol,
      records.known_at,
      try_cast(records.known_at as timestamp with time zone) as known,
      records.more is not null as has_more
    from numbered
    left join records on records.position = numbered.position + 1
  ),

  judged as (
    select
      line,
      case
        when is_header and regexp_replace(content, '[ "]', '', 'g') <> '{{ columns | join(',') }}'
          then 'the columns are {{ columns | join(',') }}'
        when is_header then null
        when has_more or (
          position('"' in content) = 0 and len(content) - len(replace(content, ',', '')) <> {{ columns | length - 1 }}
        ) then 'it has not {{ columns | length }} fields: ' || content
        when coalesce(symbol, '') = '' then 'symbol is missing'
        when event_type is null or event_type not in ('split', 'special_dividend', 'symbol_change', 'deliverable_change')
          then 'event_type ''' || coalesce(event_type, '') || ''' is none of split, special_dividend, symbol_change, deliverable_change'
        when effective is null then 'effective_date ''' || coalesce(effective_date, '') || ''' is no date like 2014-06-09'
        when known is null then 'known_at ''' || coalesce(known_at, '') || ''' is no instant like 2014-04-24T04:00:00Z'
        when ratio_new is not null and not coalesce(new > 0 and new < 1e9, false)
          then 'ratio_new ''' || ratio_new || ''' is no number above 0'
        when ratio_old is not null and not coalesce(old > 0 and old < 1e9, false)
          then 'ratio_old ''' || ratio_old || ''' is no number above 0'
        when cash_amount is not null and not coalesce(cash > 0 and cash < 1e9, false)
          then 'cash_amount ''' || cash_amount || ''' is no number above 0'
        when event_type = 'split' and (new is null or old is null) then 'a split needs ratio_new and ratio_old'
        when event_type = 'special_dividend' and cash is null then 'a special_dividend needs cash_amount'
        when event_type = 'symbol_change' and coalesce(new_symbol, '') in ('', symbol)
          then 'a symbol_change needs a new_symbol that differs from symbol'
        when min(line) over (partition by is_header, symbol, event_type, effective, known) < line
          then 'it repeats line ' || min(line) over (partition by is_header, symbol, event_type, effective, known)
            || '; a correction has a later known_at'
      end as problem
    from cleaned
  )

  select line, problem
  from judged
  where problem is not null
  order by line
{%- endmacro %}

{% macro spark__wrong_actions(file, columns) -%}{{ return('') }}{%- endmacro %}
