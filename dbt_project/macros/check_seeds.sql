{#- universe.csv and corporate_actions.csv are edited by people: a line that cannot be right stops the build before
    anything is written, and is named by its number. Asked of the files, since rows of a seed have no line numbers, by
    the function that the plugin flows.dbt_inputs brings; other engines have the tests of the seeds. -#}
{% macro check_seeds() -%}
  {%- if not execute -%}{{ return('') }}{%- endif -%}
  {%- for name in ['universe', 'corporate_actions'] -%}
    {%- set seed = graph.nodes.values() | selectattr('resource_type', 'equalto', 'seed') | selectattr('name', 'equalto', name) | first -%}
    {%- if not seed -%}
      {{ exceptions.raise_compiler_error('no ' ~ name ~ '.csv in the folder of the seeds: name that folder in CHAINLAKE_SEEDS') }}
    {%- endif -%}
    {%- set query = adapter.dispatch('refusal_of', 'chainlake')(adapter.get_seed_file_path(seed)) -%}
    {%- set refusal = run_query(query).columns[0].values()[0] if query -%}
    {%- if refusal -%}{{ exceptions.raise_compiler_error(refusal) }}{%- endif -%}
  {%- endfor -%}
  {{ return('') }}
{%- endmacro %}

{% macro default__refusal_of(file) -%}select chainlake_refusal_of('{{ file | replace("'", "''") }}') as refusal{%- endmacro %}
{% macro spark__refusal_of(file) -%}{{ return('') }}{%- endmacro %}
