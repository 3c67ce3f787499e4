-- rollup_source_time agrees with the session: `close` is the close slot, `slot_1530` the one before it, and `last_good`
-- an earlier slot than the close.
-- depends_on: {{ ref('daily_metrics') }}
select
    daily.trade_date,
    daily.conid,
    daily.rollup_strategy,
    daily.rollup_source_slot,
    daily.rollup_source_time
from {{ ref('daily_clean') }} as daily
left join {{ lake_source('raw', 'sessions') }} as sessions
    on
        daily.trade_date = sessions.trade_date
        and daily.rollup_source_slot = sessions.slot_30m
        and daily.rollup_source_time = sessions.sample_time
where
    {{ in_build('daily.trade_date') }}
    and not coalesce(
        case daily.rollup_strategy
            when 'close' then sessions.is_close
            when 'slot_1530' then sessions.is_pre_close
            else not sessions.is_close
        end,
        false
    )
