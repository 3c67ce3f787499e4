"""The picture docs/images/smile.svg: ``python docs/smile_picture.py``, a part of ``make pictures``.

One smile of a real day, Apple's options of October on 9 June 2014 at noon in New York (../shared/data/replay): the
bid-ask interval of each out-of-the-money quote in volatility, and the fitted smile.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl

from option_pricing.black_scholes import Floats, implied_vol
from option_pricing.forwards import Smiles, imply_forwards
from option_pricing.quotes import Quotes, pair_quotes
from option_pricing.surface import Surfaces, Volatilities, fit_surfaces

SOURCE = Path(__file__).resolve().parents[2] / "shared" / "data" / "replay" / "AAPL_2014-06-09.parquet"
TARGET = Path(__file__).resolve().parent / "images" / "smile.svg"
# The expiry is a Saturday: trading ends on the Friday, at 16:00 New York.
NOON, EXPIRY, LAST = datetime(2014, 6, 9, 16, tzinfo=UTC), date(2014, 10, 18), datetime(2014, 10, 17, 20, tzinfo=UTC)
# Treasury bills of that day: 0.03 to 0.06 %.
RATE = 0.0005
WIDTH, HEIGHT, MARGIN = 900, 480, 56
STRIKES, VOLS = (60.0, 130.0), (0.20, 0.34)


def smile() -> tuple[float, Floats, Volatilities, Surfaces]:
    """The forward, the strikes, their volatilities, and the fit."""
    frame = pl.read_parquet(SOURCE).filter((pl.col("ts") == NOON) & (pl.col("expiry") == EXPIRY))
    years = np.array([(LAST - NOON).total_seconds() / (365 * 86400)])
    zero = np.zeros(frame.height)
    bid, ask = frame["bid"].fill_null(0.0).to_numpy(), frame["ask"].fill_null(np.nan).to_numpy()
    strike, call = frame["strike"].to_numpy(), (frame["right"] == "C").to_numpy()
    quotes = Quotes(zero.astype(np.int64), strike, call, bid, ask, zero)
    spot = frame["underlying_price"].to_numpy()[:1]
    found = imply_forwards(Smiles(years, np.array([RATE]), spot, np.array([True])), pair_quotes(quotes))
    forward, discount = found.forward[0], found.discount[0]
    low, middle, high = (
        implied_vol(price / discount, forward, strike, years[0], call)
        for price in (np.where(bid > 0, bid, np.nan), 0.5 * (bid + ask), ask)
    )
    vols = Volatilities(quotes.smile, np.log(strike / forward), call, low, middle, high)
    return forward, strike, vols, fit_surfaces(years, np.array([0]), vols)


def at(strike: float, vol: float) -> tuple[float, float]:
    """Where a point is drawn."""
    x = MARGIN + (strike - STRIKES[0]) / (STRIKES[1] - STRIKES[0]) * (WIDTH - 2 * MARGIN)
    y = HEIGHT - MARGIN - (vol - VOLS[0]) / (VOLS[1] - VOLS[0]) * (HEIGHT - 2 * MARGIN)
    return round(x, 1), round(y, 1)


def axes() -> Iterator[str]:
    """The frame, its lines and its numbers."""
    for vol in np.arange(VOLS[0], VOLS[1] + 1e-9, 0.02):
        (left, y), (right, _) = at(STRIKES[0], vol), at(STRIKES[1], vol)
        yield f'<line x1="{left}" y1="{y}" x2="{right}" y2="{y}" stroke="#e3e3e3"/>'
        yield f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{vol:.0%}</text>'
    for strike in np.arange(STRIKES[0], STRIKES[1] + 1, 10.0):
        x, y = at(strike, VOLS[0])
        yield f'<text x="{x}" y="{y + 20}" text-anchor="middle">{strike:.0f}</text>'
    x, y = at(sum(STRIKES) / 2, VOLS[0])
    yield f'<text x="{x}" y="{y + 42}" text-anchor="middle">strike, dollars</text>'


def main() -> None:
    """Draw."""
    if not SOURCE.exists():
        raise SystemExit(f"the picture is of a real day that is not on this machine: {SOURCE}")
    forward, strike, vols, found = smile()
    body = list(axes())
    shown = (vols.call == (vols.log_moneyness >= 0)) & (vols.iv_bid > 0) & (strike > STRIKES[0]) & (strike < STRIKES[1])
    for row in np.flatnonzero(shown):
        (x, top), (_, bottom) = at(strike[row], vols.iv_ask[row]), at(strike[row], vols.iv_bid[row])
        body.append(f'<line x1="{x}" y1="{top}" x2="{x}" y2="{bottom}" stroke="#4878a8" stroke-width="3"/>')
    line = np.linspace(*STRIKES, 200)
    fitted = np.sqrt(found.svi.total_variance(np.log(line / forward)[None, :])[0] / found.years[0])
    path = " ".join(f"{x},{y}" for x, y in (at(k, vol) for k, vol in zip(line, fitted, strict=True)))
    body.append(f'<polyline points="{path}" fill="none" stroke="#c44e52" stroke-width="1.5"/>')
    (x, low), (_, high) = at(forward, VOLS[0]), at(forward, VOLS[1])
    body.append(f'<line x1="{x}" y1="{low}" x2="{x}" y2="{high}" stroke="#888" stroke-dasharray="4 4"/>')
    body.append(f'<text x="{x + 6}" y="{high + 12}">forward {forward:.2f}</text>')
    title = (
        f"AAPL, options of 17 October 2014, on 9 June 2014 at 12:00 New York: {int(found.quotes[0])} quotes out of the "
        f"money (bid to ask), and the fitted smile, within {found.inside_share[0]:.0%} of them"
    )
    body.append(f'<text x="{MARGIN}" y="26">{title}</text>')
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>'
    TARGET.write_text("\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>", ""]))


if __name__ == "__main__":
    main()
