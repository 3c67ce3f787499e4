{#- What comparisons between quotes share. Their rules, bounds and sources are in docs/quality.md. -#}

{#- Seconds from one instant to another, as a double. -#}
{% macro seconds_between(first, second) -%}
  {{ return(adapter.dispatch('seconds_between', 'chainlake')(first, second)) }}
{%- endmacro %}
{% macro default__seconds_between(first, second) -%}((epoch_us({{ second }}) - epoch_us({{ first }})) / 1e6){%- endmacro %}
{% macro spark__seconds_between(first, second) -%}((unix_micros({{ second }}) - unix_micros({{ first }})) / 1e6){%- endmacro %}

{#- Whether a share's price says what a contract of the class is worth: after a change of the deliverable, which adds a
    digit to the class, it does not. Mini options (AAPL7) carry one too, and are left out with them. -#}
{% macro delivers_shares(trading_class) -%}
  not (substr({{ trading_class }}, length({{ trading_class }}), 1) between '0' and '9')
{%- endmacro %}

{#- Whether contracts of the class cannot be exercised before they expire. -#}
{% macro is_european(trading_class) -%}
  {{ trading_class }} in ('{{ var('european_classes') | join("', '") }}')
{%- endmacro %}

{#- How far the columns lie apart; unknown ones lie nowhere. -#}
{% macro spread_of(columns) -%}
  greatest({{ columns | join(', ') }}) - least({{ columns | join(', ') }})
{%- endmacro %}

{#- A join condition: both rows have the same values of the columns. -#}
{% macro same(columns, first, second) -%}
  {%- for column in columns -%}
    {{ first }}.{{ column }} = {{ second }}.{{ column }}{{ ' and ' if not loop.last }}
  {%- endfor -%}
{%- endmacro %}

{#- The column in the contract's last quote of an earlier slot; needs a window `slots` by contract, in which the close view
    comes after the intraday quote of its slot. -#}
{% macro in_earlier_slot(column) -%}
  case when lag(slot_30m) over slots = slot_30m then lag({{ column }}, 2) over slots else lag({{ column }}) over slots end
{%- endmacro %}
