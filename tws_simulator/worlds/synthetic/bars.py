"""The ticks of one session of the synthetic market, which bars are made of. Pure.

What they say at an instant is what the world's quote says at that instant.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ingest.calendar.sessions import Session
from tws_simulator.worlds.synthetic.activity import activity
from tws_simulator.worlds.synthetic.chain import SyntheticSeries
from tws_simulator.worlds.synthetic.paths import UnderlyingPath
from tws_simulator.worlds.synthetic.quotes import last_prices, life_years, two_sided
from tws_simulator.worlds.synthetic.stock import shares_traded, sides
from tws_simulator.worlds.world import ModelSettings, QuoteTicks, TradeTicks

Floats = npt.NDArray[np.float64]

_SHARES_A_TRADE = 100


def stock_quotes(path: UnderlyingPath, session: Session, looks: Floats) -> QuoteTicks:
    """Bid and ask of a stock at `looks`."""
    bid, ask = sides(path.session(session).prices(_fractions(session, looks)))
    return QuoteTicks(looks, bid, ask)


def stock_trades(path: UnderlyingPath, seed: int, symbol: str, session: Session, looks: Floats) -> TradeTicks:
    """The price at `looks`, and what has been traded between one and the next."""
    fractions = _fractions(session, looks)
    traded = shares_traded(path, seed, symbol, session.trade_date, fractions).astype(np.int64)
    trades = -(-traded // _SHARES_A_TRADE)
    size, count = (np.diff(total, prepend=0) for total in (traded, trades))
    return TradeTicks(looks, _cents(path, session, fractions), size, count)


def index_levels(path: UnderlyingPath, session: Session, looks: Floats) -> TradeTicks:
    """The level at `looks`; an index is not traded."""
    nothing = np.zeros(len(looks), dtype=np.int64)
    return TradeTicks(looks, _cents(path, session, _fractions(session, looks)), nothing, nothing)


def one_contract(series: SyntheticSeries, position: int) -> SyntheticSeries:
    """The series as if the strike at `position` were its only one."""
    here = slice(position, position + 1)
    last = series.legs[-1]
    return replace(
        series,
        strikes=series.strikes[here],
        conids=series.conids[:, here],
        first_strikes=series.first_strikes[here],
        legs=(replace(last, strikes=last.strikes[here], carried=last.carried[here]),),
    )


def option_quotes(
    contract: SyntheticSeries, side: int, seed: int, session: Session, looks: Floats, model: ModelSettings
) -> QuoteTicks:
    """Bid and ask at `looks` of the only strike of `contract`, of row `side`."""
    fractions = _fractions(session, looks)
    spots = contract.path.session(session).prices(fractions)
    opened = session.open.timestamp()
    years = np.asarray(life_years(contract, opened + fractions * (session.close.timestamp() - opened)))
    vols = np.array([contract.path.short_vol(session.trade_date, one) for one in fractions.tolist()])
    spots, years, vols = (column[:, None, None] for column in (spots, years, vols))
    seen = two_sided(contract, seed, spots, years, vols, model)
    return QuoteTicks(looks, seen.bid[:, side, 0], seen.ask[:, side, 0])


def option_trades(
    contract: SyntheticSeries, side: int, seed: int, session: Session, until: float, model: ModelSettings
) -> TradeTicks:
    """Every trade up to `until`, seconds since 1970, in the only strike of `contract`, of row `side`."""
    today = activity(contract, seed, session.trade_date)
    total, size, hurry = int(today.trades[side, 0]), int(today.size[side, 0]), float(today.hurry[side, 0])
    number = np.arange(1, total + 1)
    opened = session.open.timestamp()
    # a trade is seen from the first whole second on in which it has happened
    seconds = np.ceil((number / max(total, 1)) ** hurry * (session.close.timestamp() - opened) - 1e-6)
    number = number[opened + seconds <= until]
    prices = last_prices(contract, session, today, number[:, None, None], model)[:, side, 0]
    count = len(number)
    return TradeTicks(
        opened + seconds[:count], prices, np.full(count, size, dtype=np.int64), np.ones(count, dtype=np.int64)
    )


def _fractions(session: Session, looks: Floats) -> Floats:
    """How much of the session is over, to the whole second."""
    opened = session.open.timestamp()
    return np.clip(np.floor(looks - opened + 1e-6) / (session.close.timestamp() - opened), 0.0, 1.0)


def _cents(path: UnderlyingPath, session: Session, fractions: Floats) -> Floats:
    return np.asarray(np.round(path.session(session).prices(fractions), 2))
