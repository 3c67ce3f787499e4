"""The page. Served by ``chainlake dashboard``, or ``streamlit run chainlake/dashboard/app.py -- --lake ROOT``.

The lake is the one of ``--lake``, else the one that `lake.location` finds; the sidebar can name another.
"""

import argparse
from collections.abc import Callable
from datetime import date

import altair as alt
import duckdb
import polars as pl
import streamlit as st

from chainlake.dashboard import queries
from lake.catalog.connection import Limits, open_catalog
from lake.errors import LakeError
from lake.location import lake_root
from lake.text import for_markdown

# A catalog knows the tables there were when it was opened, so a new one is opened after this long.
CATALOG_LIFE = "60s"
LIMITS = Limits(memory="1GB", threads=2)
# A heatmap of the whole S&P 500 cannot be read; the worst underlyings are what a person has to see.
MOST_UNDERLYINGS = 40


def first_lake() -> str:
    """The lake named on the command line, else the one that `lake.location` finds."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--lake")
    return lake_root(parser.parse_known_args()[0].lake)


@st.cache_resource(ttl=CATALOG_LIFE, show_spinner=False)
def catalog_of(root: str) -> duckdb.DuckDBPyConnection:
    """The catalog of the lake at `root`, shared by all visitors; each works on a cursor of it."""
    return open_catalog(root, LIMITS)


def page() -> None:
    """Draw the page."""
    st.set_page_config(page_title="Chainlake", page_icon="🌊", layout="wide")
    st.title("Chainlake")
    root = st.sidebar.text_input("Lake", first_lake(), help="Root of a lake: a folder, or s3://bucket/prefix").strip()
    try:
        catalog = catalog_of(root).cursor()
    except LakeError as error:
        st.error(for_markdown(str(error)))
        return
    dates = queries.trade_dates(catalog)
    if dates.is_empty():
        st.info(f"The lake at {root} has no trade date yet: `chainlake discover` records the first one.")
        return
    day = st.sidebar.selectbox("Trade date", dates["trade_date"].to_list())
    st.sidebar.button("Refresh", on_click=catalog_of.clear)

    show_incidents(catalog)
    show_dates(dates)
    left, right = st.columns(2)
    with left:
        section("Quality", show_metrics, catalog, day)
        section("Rollup strategy", show_strategies, catalog, day)
    with right:
        section("Coverage by underlying and slot", show_coverage, catalog, day)
    show_chain(catalog, day)
    with st.expander("Rows per table"):
        st.dataframe(queries.row_counts(catalog, day), hide_index=True)


def section(
    title: str, draw: Callable[[duckdb.DuckDBPyConnection, date], None], catalog: duckdb.DuckDBPyConnection, day: date
) -> None:
    """A titled part of the page about `day`."""
    st.subheader(title)
    draw(catalog, day)


def show_incidents(catalog: duckdb.DuckDBPyConnection) -> None:
    """What is wrong now, whichever date it is about."""
    for incident in queries.open_incidents(catalog).iter_rows(named=True):
        show = st.error if incident["severity"] == "severe" else st.warning
        taken = ", acknowledged" if incident["acknowledged"] else ""
        words = (
            f"{incident['cause']} of {incident['trade_date']}{taken}, since {incident['since']:%Y-%m-%d %H:%M} UTC: "
        )
        # A dollar sign would begin a formula.
        show((words + for_markdown(incident["detail"] or "")).replace("$", r"\$"))


def show_dates(dates: pl.DataFrame) -> None:
    """The latest trade dates with the state of their latest publication."""
    st.subheader("Trade dates")
    st.dataframe(
        dates.head(15),
        hide_index=True,
        column_config={
            "trade_date": st.column_config.DateColumn(),
            "published_at": st.column_config.DatetimeColumn("published_at (UTC)", timezone="UTC"),
        },
    )


def show_metrics(catalog: duckdb.DuckDBPyConnection, day: date) -> None:
    """The day's quality metrics, breaches first."""
    metrics = queries.metrics(catalog, day)
    if metrics.is_empty():
        st.info(f"No quality metrics of {day} yet: `chainlake rollup --date {day}` makes them.")
    else:
        st.dataframe(metrics, hide_index=True)


def show_strategies(catalog: duckdb.DuckDBPyConnection, day: date) -> None:
    """Where the daily rows came from, and why contracts have none."""
    outcomes = queries.strategies(catalog, day)
    if outcomes.is_empty():
        st.info(f"{day} is not rolled up yet: `chainlake rollup --date {day}`.")
        return
    by_outcome = alt.Y("outcome:N", sort="-x", title=None)
    bars = alt.Chart(outcomes).mark_bar().encode(x="contracts:Q", y=by_outcome, color="kind:N")
    st.altair_chart(bars)


def show_coverage(catalog: duckdb.DuckDBPyConnection, day: date) -> None:
    """Captured of frozen contracts: a heatmap of slots and the underlyings with the lowest coverage."""
    coverage = queries.coverage(catalog, day)
    if coverage.is_empty():
        st.info(f"No slot of {day} has been captured yet.")
        return
    worst = coverage.group_by("underlying").agg(pl.col("coverage").mean()).sort("coverage", "underlying")
    shown = worst["underlying"].head(MOST_UNDERLYINGS).to_list()
    if len(worst) > len(shown):
        st.caption(f"The {len(shown)} underlyings with the lowest coverage, of {len(worst)}.")
    share = alt.Color(
        "coverage:Q", scale=alt.Scale(domain=[0, 1], scheme="redyellowgreen"), legend=alt.Legend(format="%")
    )
    heatmap = (
        alt.Chart(coverage.filter(pl.col("underlying").is_in(shown)))
        .mark_rect()
        .encode(
            x=alt.X("slot:O", title="slot (New York)"),
            y=alt.Y("underlying:N", sort=shown, title=None),
            color=share,
            tooltip=["underlying", "slot", "frozen", "captured", alt.Tooltip("coverage:Q", format=".1%")],
        )
    )
    st.altair_chart(heatmap)


def show_chain(catalog: duckdb.DuckDBPyConnection, day: date) -> None:
    """The smile of every expiry and the chain of one, for an underlying and a slot to choose."""
    st.subheader("Chain")
    names = queries.underlyings(catalog, day)
    if not names:
        st.info(f"No contracts are frozen for {day}.")
        return
    of_underlying, of_slot, of_expiry = st.columns(3)
    underlying = of_underlying.selectbox("Underlying", names)
    slots = queries.slots(catalog, day)
    slot = of_slot.selectbox("Slot (New York)", slots, index=len(slots) - 1)
    chain = queries.chain(catalog, day, underlying, slot)
    if chain.is_empty():
        st.info(f"No contract of {underlying} answered at {slot} on {day}.")
        return
    expiry = of_expiry.selectbox("Expiry", chain["expiry"].unique(maintain_order=True).to_list())
    show_smile(chain)
    st.dataframe(chain.filter(pl.col("expiry") == expiry).drop("expiry"), hide_index=True)


def show_smile(chain: pl.DataFrame) -> None:
    """Implied volatility by strike, a line per expiry, of the options out of the money, whose markets are tight."""
    spot = chain["underlying_price"].median()
    quoted = chain.filter(pl.col("iv").is_not_null())
    if isinstance(spot, float):
        quoted = quoted.filter((pl.col("right") == "C") == (pl.col("strike") >= spot))
        st.caption(f"Implied volatility of the options out of the money; the underlying stands at {spot:,.2f}.")
    smile = (
        alt.Chart(quoted.with_columns(pl.col("expiry").cast(pl.String)))
        .mark_line(point=True)
        .encode(
            x=alt.X("strike:Q", scale=alt.Scale(zero=False), title="strike, dollars"),
            y=alt.Y("iv:Q", scale=alt.Scale(zero=False), axis=alt.Axis(format="%"), title="implied volatility"),
            color="expiry:N",
            tooltip=["expiry", "right", "strike", alt.Tooltip("iv:Q", format=".1%"), "bid", "ask", "age_s"],
        )
    )
    st.altair_chart(smile)


page()
