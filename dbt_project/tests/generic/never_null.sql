{#- None of the columns is ever null; gives the rows in which one is. -#}
{% test never_null(model, columns) %}
select *
from {{ model }}
where {% for column in columns %}{{ quoted(column) }} is null{{ ' or ' if not loop.last }}{% endfor %}
{% endtest %}
