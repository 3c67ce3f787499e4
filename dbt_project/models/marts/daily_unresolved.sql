{{ config(sorted_by=['trade_date', 'underlying', 'expiry', 'strike', 'right', 'conid']) }}

with

-- Everything that should have, or does have, a row on the date; smaller `known_from` describes the contract.
contracts as (
    select
        trade_date,
        conid,
        underlying,
        {{ select_columns(contract_columns()) }},
        -1 as known_from
    from {{ ref('int_frozen_contracts') }}
    union all
    select
        trade_date,
        conid,
        underlying,
        {{ select_columns(contract_columns()) }},
        slot_30m as known_from
    from {{ ref('intraday') }}
    where {{ in_build() }}
    union all
    select
        trade_date,
        conid,
        underlying,
        {{ select_columns(contract_columns()) }},
        1000 as known_from
    from {{ ref('int_close_outcomes') }}
),

unresolved as (
    select
        contracts.*,
        row_number() over (partition by contracts.trade_date, contracts.conid order by contracts.known_from) as mention
    from contracts
    left join {{ ref('int_rollup_choices') }} as choices
        on contracts.trade_date = choices.trade_date and contracts.conid = choices.conid
    where choices.conid is null
),

outcomes as (
    select
        trade_date,
        conid,
        'intraday' as view,
        slot_30m,
        sample_time,
        bid,
        ask,
        snapshot_error,
        error_code,
        error_type,
        error_message
    from {{ ref('intraday') }}
    where {{ in_build() }}
    union all
    select
        trade_date,
        conid,
        'close' as view,
        slot_30m,
        sample_time,
        bid,
        ask,
        snapshot_error,
        error_code,
        error_type,
        error_message
    from {{ ref('int_close_outcomes') }}
),

-- The latest error-free outcome of each; where there is none, the latest failure.
latest as (
    select
        outcomes.*,
        row_number() over (
            partition by outcomes.trade_date, outcomes.conid
            order by
                case when outcomes.snapshot_error then 1 else 0 end,
                case when outcomes.view = 'close' then 0 else 1 end,
                outcomes.slot_30m desc
        ) as recency
    from outcomes
    inner join unresolved
        on
            outcomes.trade_date = unresolved.trade_date
            and outcomes.conid = unresolved.conid
            and unresolved.mention = 1
),

out_of_session as (
    select distinct
        trade_date,
        conid
    from {{ ref('stg_option_quotes') }}
    where {{ in_build() }} and not in_session
)

select
    unresolved.trade_date,
    unresolved.underlying,
    unresolved.conid,
    {{ select_columns(contract_columns(), 'unresolved') }},
    case
        when latest.conid is null and out_of_session.conid is null then 'never_asked'
        when latest.conid is null then 'out_of_session'
        when latest.snapshot_error then 'only_errors'
        when coalesce(latest.bid, 0) <= 0 and coalesce(latest.ask, 0) <= 0 then 'no_quote'
        when latest.ask > 0 and latest.bid > latest.ask then 'crossed'
        else 'not_good'
    end as reason,
    latest.view as latest_view,
    latest.slot_30m as latest_slot,
    latest.sample_time as latest_sample_time,
    latest.bid as latest_bid,
    latest.ask as latest_ask,
    latest.error_code,
    latest.error_type,
    latest.error_message
from unresolved
left join latest
    on
        unresolved.trade_date = latest.trade_date
        and unresolved.conid = latest.conid
        and latest.recency = 1
left join out_of_session
    on unresolved.trade_date = out_of_session.trade_date and unresolved.conid = out_of_session.conid
where unresolved.mention = 1
