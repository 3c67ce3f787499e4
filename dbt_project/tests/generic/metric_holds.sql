{#- No date of the build breaches the metric's threshold; a number that is not due yet is no breach. -#}
{% test metric_holds(model, metric) %}
{{ config(severity=var('thresholds')[metric].severity) }}
select
    trade_date,
    metric,
    value,
    comparison,
    threshold,
    detail
from {{ model }}
where metric = '{{ metric }}' and not passed and not pending
{% endtest %}
