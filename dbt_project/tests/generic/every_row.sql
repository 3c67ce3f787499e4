{#- The expression is true for every row; gives the rows for which it is false. Unknown (null) passes. -#}
{% test every_row(model, expression) %}
select *
from {{ model }}
where not ({{ expression }})
{% endtest %}
