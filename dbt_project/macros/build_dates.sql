{#- The trade dates of a build. They are chosen once, when dbt starts, and kept in a small table, so that every model
    and test of the invocation sees the same ones as literals: only literals prune the files of a Delta table. -#}

{% macro build_dates_table() -%}
  {{ return(api.Relation.create(database=target.database, schema=target.schema, identifier='build_dates', type='table')) }}
{%- endmacro %}

{#- The dates asked for by var `trade_dates`, or all that raw/sessions knows and that have quotes or a frozen set. A date
    that was made of quotes and has none any more (retention takes them) cannot be rebuilt and is left alone, even when
    it is asked for. One that never had any is a day that failed, and is built as one, however often.
    Reader.retired of lake/reads.py states the same rule for the command line. -#}
{% macro choose_build_dates() -%}
  {%- if not execute -%}{{ return('') }}{%- endif -%}
  {%- if invocation_args_dict.which in ('build', 'run', 'test') and not delta_exists('raw/sessions') -%}
    {{ exceptions.raise_compiler_error('no lake at ' ~ lake_root() ~ ': run `chainlake demo`, or name its root in CHAINLAKE_LAKE__ROOT') }}
  {%- endif -%}
  {%- do same_lake_as_built() -%}
  {%- do pin_versions() -%}
  {%- set asked = var('trade_dates') -%}
  {%- if asked is string -%}
    {{ exceptions.raise_compiler_error("trade_dates '" ~ asked ~ "' is no list: write {trade_dates: [" ~ asked ~ ']}') }}
  {%- endif -%}
  {%- set limit -%}
    {%- if asked is not none -%} where {{ dates_filter(asked) }}{%- endif -%}
  {%- endset -%}
  {%- set dates_of = {} -%}
  {%- set no_dates = 'select cast(null as date) as trade_date where 1 = 0' -%}
  {%- for table in ['raw/sessions', 'raw/option_quotes', 'raw/contracts'] -%}
    {%- do dates_of.update({table:
      'select distinct trade_date from ' ~ pinned_relation(table) ~ limit if pinned_relation(table) else no_dates}) -%}
  {%- endfor -%}
  {%- set made_of_quotes -%}
    {{ 'select trade_date from ' ~ delta_relation('clean/daily_clean') ~ limit if delta_exists('clean/daily_clean') else no_dates }}
    union
    {% if delta_exists('clean/daily_unresolved') -%}
      select trade_date from (select trade_date, reason from {{ delta_relation('clean/daily_unresolved') }}{{ limit }})
      where reason <> 'never_asked'
    {%- else -%}{{ no_dates }}{%- endif %}
  {%- endset -%}
  {%- set query -%}
    with quoted as ({{ dates_of['raw/option_quotes'] }}),
    retired as (({{ made_of_quotes }}) except select trade_date from quoted),
    candidates as (
      {%- if asked is none %}
      select sessions.trade_date from ({{ dates_of['raw/sessions'] }}) as sessions
      where sessions.trade_date in (
        select trade_date from quoted union all select trade_date from ({{ dates_of['raw/contracts'] }}) as frozen
      )
      {%- else %}
      {% for day in asked %}select date '{{ day }}' as trade_date{{ ' union ' if not loop.last }}{% endfor %}
      {%- if not asked %}select cast(null as date) as trade_date where 1 = 0{% endif %}
      {%- endif %}
    )
    select trade_date, trade_date in (select trade_date from retired) as is_retired from candidates order by trade_date
  {%- endset -%}
  {%- do run_query('create schema if not exists ' ~ build_dates_table().without_identifier()) -%}
  {%- do run_query('create or replace table ' ~ build_dates_table() ~ ' as ' ~ query) -%}
  {%- set left_alone = run_query('select trade_date from ' ~ build_dates_table() ~ ' where is_retired').columns[0].values() -%}
  {%- if left_alone and asked is not none -%}
    {{ exceptions.warn('raw quotes are gone, left as they are: ' ~ left_alone | join(', ')) }}
  {%- endif -%}
  {{ return('') }}
{%- endmacro %}

{#- dbt's database holds views over the lake it last built. Tests over another one would tell nothing of it. -#}
{% macro same_lake_as_built() -%}
  {%- set built = api.Relation.create(database=target.database, schema=target.schema, identifier='built_lake', type='table') -%}
  {%- if invocation_args_dict.which in ('build', 'run') -%}
    {%- do run_query('create schema if not exists ' ~ built.without_identifier()) -%}
    {%- do run_query("create or replace table " ~ built ~ " as select '" ~ lake_root() | replace("'", "''") ~ "' as root") -%}
  {%- elif invocation_args_dict.which == 'test' -%}
    {%- set root = run_query('select root from ' ~ built).columns[0].values()[0] if has_table('built_lake') -%}
    {%- if root != lake_root() -%}
      {{ exceptions.raise_compiler_error('nothing was built here over ' ~ lake_root() ~ ': run `dbt build` first') }}
    {%- endif -%}
  {%- endif -%}
{%- endmacro %}

{#- Whether the target's schema has the table. Not asked of dbt's cache, which was filled before this run made any. -#}
{% macro has_table(name) -%}
  {%- set query -%}
    select count(*) from information_schema.tables where table_schema = '{{ target.schema }}' and table_name = '{{ name }}'
  {%- endset -%}
  {{ return(run_query(query).columns[0].values()[0] > 0) }}
{%- endmacro %}

{#- ISO dates of this build, in order. -#}
{% macro build_dates() -%}
  {%- if not execute -%}{{ return([]) }}{%- endif -%}
  {%- if not has_table('build_dates') -%}{{ return([]) }}{%- endif -%}
  {{ return(iso_dates('select trade_date from ' ~ build_dates_table() ~ ' where not is_retired')) }}
{%- endmacro %}

{#- The dates that daily_adjusted replaces: those of the build, and earlier ones that corporate actions now reach. -#}
{% macro adjusted_dates() -%}
  {{ return((build_dates() + restatements().keys() | list) | unique | sort) }}
{%- endmacro %}

{#- {date: underlyings} of the earlier dates that corporate actions now reach, both in order. -#}
{% macro restatements() -%}
  {%- set found = {} -%}
  {%- set restated = ref('int_restatements') -%}
  {%- if execute and load_relation(restated) -%}
    {%- for day, underlying in run_query(
      'select ' ~ iso_date('trade_date') ~ ' as day, underlying from ' ~ restated ~ ' order by day, underlying'
    ).rows -%}
      {%- do found.setdefault(day, []).append(underlying) -%}
    {%- endfor -%}
  {%- endif -%}
  {{ return(found) }}
{%- endmacro %}

{% macro iso_dates(query) -%}
  {%- set rows = run_query('select ' ~ iso_date('trade_date') ~ ' as day from (' ~ query ~ ') as dates order by day') -%}
  {{ return(rows.columns[0].values() | list) }}
{%- endmacro %}

{#- A condition on `column` that lets delta_scan skip the files of all other dates: `=` for one date; for several a
    range, which prunes, and the list, which alone would not. -#}
{% macro dates_filter(dates, column='trade_date') -%}
  {%- if not dates -%}
    {{ return('1 = 0') }}
  {%- elif dates | length == 1 -%}
    {{ return(column ~ " = date '" ~ dates[0] ~ "'") }}
  {%- endif -%}
  {%- set days = dates | map('string') | sort -%}
  {{ return(column ~ " between date '" ~ days[0] ~ "' and date '" ~ days[-1] ~ "' and " ~ column ~ " in (date '" ~ days | join("', date '") ~ "')") }}
{%- endmacro %}

{#- True for rows of this build's dates. Unit tests override it. -#}
{% macro in_build(column='trade_date') -%}
  {{ return(dates_filter(build_dates(), column)) }}
{%- endmacro %}

{#- True for rows of the dates that daily_adjusted replaces. Unit tests override it. -#}
{% macro in_adjusted_build(column='trade_date') -%}
  {{ return(dates_filter(adjusted_dates(), column)) }}
{%- endmacro %}
