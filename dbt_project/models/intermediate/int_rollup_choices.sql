with

outcomes as (
    select
        trade_date,
        conid,
        'intraday' as view,
        slot_30m,
        is_good,
        snapshot_error
    from {{ ref('intraday') }}
    where {{ in_build() }}
    union all
    select
        trade_date,
        conid,
        'close' as view,
        slot_30m,
        is_good,
        snapshot_error
    from {{ ref('int_close_outcomes') }}
),

-- Higher wins. No two rows of a contract share a preference, so joining on it gives back exactly one.
candidates as (
    select
        outcomes.trade_date,
        outcomes.conid,
        outcomes.view,
        outcomes.slot_30m,
        case
            when outcomes.is_good and outcomes.view = 'close' then 3000
            when outcomes.is_good and sessions.is_close then 2000
            when outcomes.is_good then 1000 + outcomes.slot_30m
            when outcomes.view = 'intraday' and sessions.is_pre_close and not outcomes.snapshot_error then 1
        end as preference
    from outcomes
    inner join {{ ref('stg_sessions') }} as sessions
        on outcomes.trade_date = sessions.trade_date and outcomes.slot_30m = sessions.slot_30m
),

best as (
    select
        trade_date,
        conid,
        max(preference) as preference
    from candidates
    group by trade_date, conid
),

close_slots as (
    select
        trade_date,
        slot_30m
    from {{ ref('stg_sessions') }}
    where is_close
)

select
    best.trade_date,
    best.conid,
    candidates.view as rollup_source_view,
    candidates.slot_30m as rollup_source_slot,
    case
        when best.preference >= 2000 then 'close'
        when best.preference >= 1000 then 'last_good'
        else 'slot_1530'
    end as rollup_strategy,
    close_slots.slot_30m - candidates.slot_30m as slots_before_close
from best
inner join candidates
    on
        best.trade_date = candidates.trade_date
        and best.conid = candidates.conid
        and best.preference = candidates.preference
inner join close_slots
    on best.trade_date = close_slots.trade_date
