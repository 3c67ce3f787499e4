"""Quotes of one series at one instant: theoretical values, spreads, zero-bid wings, last trades, greeks."""

from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.calendar.sessions import Session
from option_pricing import black_scholes as pricing
from tws_simulator.worlds.instruments import mix
from tws_simulator.worlds.synthetic.activity import Activity, contract_words, uniform
from tws_simulator.worlds.synthetic.chain import SyntheticSeries
from tws_simulator.worlds.synthetic.paths import session_fraction
from tws_simulator.worlds.synthetic.smile import total_variance
from tws_simulator.worlds.world import Model, ModelSettings, Quote

Floats = npt.NDArray[np.float64]

_YEAR_SECONDS = pricing.DAYS_PER_YEAR * 86_400
# On its last day a contract keeps a minute of life, so that greeks stay finite at the close.
_SHORTEST_LIFE = 60 / _YEAR_SECONDS
# In the last minutes of an expiry far strikes of the surface have thousands of per cent, and no price hangs on that.
_HIGHEST_IV = 9.99
_CALLS = np.array([[True], [False]])
_LARGE_TICK_FROM = 3.0


def tick_below(value: Floats, min_tick: float) -> Floats:
    """The next price at or below `value` on the grid: `min_tick` below 3 dollars; 0.05 (or 0.10) from there."""
    return _on_grid(value, min_tick, np.floor, 1e-7)


def tick_above(value: Floats, min_tick: float) -> Floats:
    """The next price at or above `value` on the grid."""
    return _on_grid(value, min_tick, np.ceil, -1e-7)


def _on_grid(value: Floats, min_tick: float, rounding: np.ufunc, tolerance: float) -> Floats:
    step = np.where(value < _LARGE_TICK_FROM, min_tick, 0.05 if min_tick < 0.05 else 0.1)
    return np.asarray(np.round(rounding(value / step + tolerance) * step, 2))


def life_years(series: SyntheticSeries, instant: datetime | float | Floats) -> float | Floats:
    """Years from `instant` (or seconds since 1970) to the expiry."""
    seconds = instant.timestamp() if isinstance(instant, datetime) else instant
    return np.maximum((series.ends - seconds) / _YEAR_SECONDS, _SHORTEST_LIFE)


def implied_vol(
    series: SyntheticSeries,
    spot: float | Floats,
    years: float | Floats,
    short_vol: float | Floats,
    model: ModelSettings,
) -> Floats:
    """Of the surface, by strike; `spot` and `years` broadcast against the strikes."""
    path = series.path
    forward = spot * np.exp((model.rate - model.dividend_yield) * np.asarray(years))
    theta = path.atm_variance(short_vol, years)
    variance = total_variance(theta, np.log(series.strikes / forward), path.skew, path.smile)
    return np.minimum(np.sqrt(variance / years), _HIGHEST_IV)


def theoretical(
    series: SyntheticSeries,
    spot: float | Floats,
    years: float | Floats,
    short_vol: float | Floats,
    model: ModelSettings,
) -> Floats:
    """Values by right and strike, dollars, shape (2, strikes); never below what exercising at once is worth."""
    iv = implied_vol(series, spot, years, short_vol, model)
    european = pricing.price(spot, series.strikes, years, iv, _CALLS, model.rate, model.dividend_yield)
    intrinsic = np.maximum(np.where(_CALLS, 1.0, -1.0) * (spot - series.strikes), 0.0)
    return np.asarray(np.maximum(european, intrinsic))


class SeriesQuotes:
    """All quotes of one series at one instant of a session. Deterministic in (seed, series, whole second).

    An adjusted series is worth what its old deliverable is; its model names the price of the underlying's share.
    """

    def __init__(
        self,
        series: SyntheticSeries,
        seed: int,
        session: Session,
        instant: datetime,
        today: Activity,
        model: ModelSettings,
    ) -> None:
        fraction = session_fraction(session, instant)
        prices = series.path.session(session)
        self.spot = float(prices.prices(fraction))
        self._stock = float(series.stock.session(session).prices(fraction))
        seconds = session.open.timestamp() + fraction * (session.close - session.open).total_seconds()
        years = life_years(series, seconds)
        short_vol = series.path.short_vol(session.trade_date, fraction)
        seen = two_sided(series, seed, self.spot, years, short_vol, model)
        iv, greeks, values = seen.iv, seen.greeks, seen.values
        minute = np.uint64(int(seconds // 60))
        sizes = uniform(contract_words(series, seed, "sizes") ^ mix(np.array([minute]))[:, None])
        bid_size = np.where(np.isnan(seen.bid), 0, 1 + np.floor(60 * sizes**2))
        ask_size = 1 + np.floor(60 * (1 - sizes) ** 2)
        done = np.floor(today.trades * fraction ** (1 / today.hurry) + 1e-9).astype(np.int64)
        last = last_prices(series, session, today, done, model)
        self._bid = seen.bid.tolist()
        self._ask = seen.ask.tolist()
        self._sizes = (bid_size.astype(int).tolist(), ask_size.astype(int).tolist())
        self._last = last.tolist()
        self._trade_size = today.size.tolist()
        self._volume = (done * today.size).tolist()
        self._models = tuple(
            column.tolist() for column in (iv, greeks.delta, values, greeks.gamma, greeks.vega, greeks.theta)
        )

    def quote(self, side: int, position: int) -> Quote:
        """The quote of one contract."""
        bid, last = self._bid[side][position], self._last[side][position]
        iv, delta, price, gamma, vega, theta = (column[side][position] for column in self._models)
        return Quote(
            bid=None if bid != bid else bid,
            bid_size=self._sizes[0][side][position],
            ask=self._ask[side][position],
            ask_size=self._sizes[1][side][position],
            last=None if last != last else last,
            last_size=0 if last != last else self._trade_size[side][position],
            volume=self._volume[side][position],
            model=Model(iv, delta, price, 0.0, gamma, vega, theta, self._stock),
        )


class TwoSided(NamedTuple):
    """Both sides of the market in every contract, with the model behind them; a bid is NaN where there is none."""

    iv: Floats
    greeks: pricing.Valuation
    values: Floats
    bid: Floats
    ask: Floats


def two_sided(
    series: SyntheticSeries,
    seed: int,
    spot: float | Floats,
    years: float | Floats,
    short_vol: float | Floats,
    model: ModelSettings,
) -> TwoSided:
    """By right and strike, shape (2, strikes); of n instants, shape (n, 2, strikes).

    `spot`, `years` and `short_vol` are numbers, or arrays of shape (n, 1, 1).
    """
    surface = implied_vol(series, spot, years, short_vol, model)
    iv = np.broadcast_to(surface, np.broadcast_shapes(surface.shape, _CALLS.shape))
    greeks = pricing.value(spot, series.strikes, years, iv, _CALLS, model.rate, model.dividend_yield)
    intrinsic = np.maximum(np.where(_CALLS, 1.0, -1.0) * (spot - series.strikes), 0.0)
    values = np.maximum(greeks.price, intrinsic)
    half = _half_spread(series, seed, values, greeks.vega, series.strikes, spot)
    bid = tick_below(values - half, series.min_tick)
    ask = tick_above(values + half, series.min_tick)
    return TwoSided(iv, greeks, values, np.where(bid < series.min_tick, np.nan, np.round(bid, 2)), np.round(ask, 2))


def _half_spread(
    series: SyntheticSeries, seed: int, values: Floats, vega: Floats, strikes: Floats, spot: float | Floats
) -> Floats:
    """Half the distance of bid and ask before rounding: wider for dear, for volatile and for distant contracts."""
    distance = np.minimum(np.abs(np.log(strikes / spot)) / 0.15, 4.0)
    mood = 0.7 + 0.6 * uniform(contract_words(series, seed, "spread"))
    thin = 0.6 / (0.4 + min(series.path.liquidity, 4.0)) + 0.4
    return np.asarray(thin * mood * (0.3 * series.min_tick + 0.006 * values + 0.35 * vega * (1 + 0.5 * distance)))


def last_prices(
    series: SyntheticSeries, session: Session, today: Activity, done: npt.NDArray[np.int64], model: ModelSettings
) -> Floats:
    """Price of the latest trade: today's, else the value at the open (a stale price), else NaN (never traded)."""
    traded = done > 0
    share = np.where(traded, done / np.maximum(today.trades, 1), 0.0) ** today.hurry
    prices = series.path.session(session)
    length = (session.close - session.open).total_seconds()
    spots = prices.prices(share)
    years = life_years(series, session.open.timestamp() + share * length)
    short_vol = series.path.short_vol(session.trade_date, 0.5)
    values = theoretical(series, spots, years, short_vol, model)
    return np.where(
        traded | today.has_history, np.maximum(tick_below(values, series.min_tick), series.min_tick), np.nan
    )
