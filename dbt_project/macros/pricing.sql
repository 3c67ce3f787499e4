{#- What the models of derived/* share. -#}

{#- A year is 365 days of 86,400 seconds. -#}
{% macro year_seconds() -%}31536000.0{%- endmacro %}

{#- Whether contracts of the class settle at the open of their expiry: series of an index on the third Friday, and VIX. -#}
{% macro settles_at_the_open(trading_class) -%}
  {{ trading_class }} in ('{{ var('am_settled_classes') | join("', '") }}')
{%- endmacro %}

{#- The day on which a contract can be traded for the last time: series up to January 2015 carry the Saturday after it. -#}
{% macro last_session(expiry, last_trade_date) -%}
  {{ return(adapter.dispatch('last_session', 'chainlake')(expiry, last_trade_date)) }}
{%- endmacro %}
{% macro default__last_session(expiry, last_trade_date) -%}
  least(coalesce({{ last_trade_date }}, {{ expiry }}), case when isodow({{ expiry }}) = 6 then {{ expiry }} - 1 else {{ expiry }} end)
{%- endmacro %}
{% macro spark__last_session(expiry, last_trade_date) -%}
  least(coalesce({{ last_trade_date }}, {{ expiry }}), case when dayofweek({{ expiry }}) = 7 then date_sub({{ expiry }}, 1) else {{ expiry }} end)
{%- endmacro %}

{#- The instant up to which a contract has time value: 16:00 New York of its last session, the close of a session that ends
    early (var `early_closes`), 09:30 of its expiry where the settlement price is that of the open. -#}
{% macro expiry_instant(trading_class, expiry, last_trade_date) -%}
  {%- set day = last_session(expiry, last_trade_date) -%}
  case
        when {{ settles_at_the_open(trading_class) }} then {{ new_york_instant(expiry, '09:30') }}
        {%- for clock, days in var('early_closes').items() %}
        when {{ day }} in ({% for each in days %}date '{{ each }}'{{ ', ' if not loop.last }}{% endfor %}) then {{ new_york_instant(day, clock) }}
        {%- endfor %}
        else {{ new_york_instant(day, '16:00') }}
    end
{%- endmacro %}

{#- All rows of a group as one list of structs of `columns` (name -> expression). -#}
{% macro list_of_rows(columns) -%}
  {{ return(adapter.dispatch('list_of_rows', 'chainlake')(columns)) }}
{%- endmacro %}
{% macro default__list_of_rows(columns) -%}
  list(struct_pack({% for name, expression in columns.items() %}{{ name }} := {{ expression }}{{ ', ' if not loop.last }}{% endfor %}))
{%- endmacro %}
{% macro spark__list_of_rows(columns) -%}
  collect_list(struct({% for name, expression in columns.items() %}{{ expression }} as {{ name }}{{ ', ' if not loop.last }}{% endfor %}))
{%- endmacro %}

{#- A row for each struct of the list column. -#}
{% macro rows_of(column) -%}
  {{ return(adapter.dispatch('rows_of', 'chainlake')(column)) }}
{%- endmacro %}
{% macro default__rows_of(column) -%}unnest({{ column }}){%- endmacro %}
{% macro spark__rows_of(column) -%}explode({{ column }}){%- endmacro %}

{#- The field `name` of the struct column. -#}
{% macro field(column, name) -%}
  {{ return(adapter.dispatch('field', 'chainlake')(column, name)) }}
{%- endmacro %}
{% macro default__field(column, name) -%}struct_extract({{ column }}, '{{ name }}'){%- endmacro %}
{% macro spark__field(column, name) -%}{{ column }}.{{ name }}{%- endmacro %}
