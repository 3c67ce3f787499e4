{#- The quality contracts of var `thresholds` as rows: metric, comparison, threshold, severity. -#}
{% macro thresholds() -%}
  {%- for metric, rule in var('thresholds').items() %}
  select '{{ metric }}' as metric, '{{ rule.comparison }}' as comparison, cast({{ rule.threshold }} as double) as threshold, '{{ rule.severity }}' as severity{{ ' union all' if not loop.last }}
  {%- endfor %}
{%- endmacro %}

{#- The dates of the build with the instants by which their numbers are due: the session's end, and open interest's last
    attempt on the next session. A date that is no session has no end. -#}
{% macro due_instants() -%}
  {%- for day in build_dates() %}
  select date '{{ day }}' as trade_date, {{ new_york_instant("date '" ~ next_session(day) ~ "'", var('open_interest_due')) }} as open_interest_due{{ ' union all' if not loop.last }}
  {%- else %}
  select cast(null as date) as trade_date, cast(null as {{ type_instant() }}) as open_interest_due where 1 = 0
  {%- endfor %}
{%- endmacro %}

{#- The session after `day`: from the exchange calendar when the pipeline says so, else the next weekday, which is a day
    early where that is a holiday. -#}
{% macro next_session(day) -%}
  {%- if day in var('next_sessions') -%}{{ return(var('next_sessions')[day]) }}{%- endif -%}
  {%- set date = modules.datetime.date.fromisoformat(day) -%}
  {{ return((date + modules.datetime.timedelta(days={4: 3, 5: 2}.get(date.weekday(), 1))).isoformat()) }}
{%- endmacro %}
