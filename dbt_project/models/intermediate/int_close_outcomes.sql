select * from {{ ref('int_flagged_outcomes') }}
where view = 'close'
