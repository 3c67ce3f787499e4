select * from {{ ref('int_best_outcomes') }}
where view = 'close'
