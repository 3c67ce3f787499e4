with

error_free as (
    select
        trade_date,
        data_quality_flag
    from {{ ref('intraday') }}
    where {{ in_build() }} and not snapshot_error
    union all
    select
        trade_date,
        data_quality_flag
    from {{ ref('int_close_outcomes') }}
    where not snapshot_error
),

shares as (
    select
        trade_date,
        {{ flag_share_columns(flags_with_a_metric()) }}
    from error_free
    group by trade_date
)

{{ flag_share_rows(flags_with_a_metric(), 'shares') }}
