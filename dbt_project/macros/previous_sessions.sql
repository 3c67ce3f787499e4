{#- The session before `day`: from the exchange calendar when the pipeline says so, else the weekday before, which is no
    session where that is a holiday. -#}
{% macro previous_session(day) -%}
  {%- if day in var('previous_sessions') -%}{{ return(var('previous_sessions')[day]) }}{%- endif -%}
  {%- for earlier, later in var('next_sessions').items() if later == day -%}{{ return(earlier) }}{%- endfor -%}
  {%- set date = modules.datetime.date.fromisoformat(day) -%}
  {{ return((date - modules.datetime.timedelta(days={0: 3, 6: 2}.get(date.weekday(), 1))).isoformat()) }}
{%- endmacro %}

{#- The dates of the build with the sessions before them, as rows: trade_date, previous_date. -#}
{% macro previous_sessions() -%}
  {%- for day in build_dates() %}
  select date '{{ day }}' as trade_date, date '{{ previous_session(day) }}' as previous_date{{ ' union all' if not loop.last }}
  {%- else %}
  select cast(null as date) as trade_date, cast(null as date) as previous_date where 1 = 0
  {%- endfor %}
{%- endmacro %}

{#- Their ISO dates, for `dates_filter`. -#}
{% macro previous_dates() -%}
  {%- set dates = [] -%}
  {%- for day in build_dates() -%}{%- do dates.append(previous_session(day)) -%}{%- endfor -%}
  {{ return(dates) }}
{%- endmacro %}
