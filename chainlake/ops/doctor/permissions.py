"""What IB's answers to a request for market data mean, and what to do about them. Pure.

Codes: TWS API, message codes. A subscription counts from the next login of the gateway on.
"""

from dataclasses import dataclass
from typing import Literal

from chainlake.ops.doctor.check import Check, fail, ok, warn
from ingest.broker import Quote, RequestError
from ingest.broker.codes import COMPETING_SESSION, NO_LIVE_PERMISSION

Kind = Literal["underlying", "option"]
TYPES = {1: "live", 2: "frozen", 3: "delayed", 4: "delayed-frozen"}
DELAYED = (3, 4)
FEEDS: dict[Kind, str] = {
    "option": "OPRA (US options, level 1)",
    "underlying": "US stock quotes (networks A, B and C)",
}
MEANINGS = {
    200: "IB does not know the contract",
    354: "this account has no permission for live data",
    10089: "live data needs another subscription",
    10090: "a part of the data is not subscribed to",
    10091: "a part of the data is not subscribed to",
    10167: "no permission for live data: IB shows delayed data",
    10168: "this account has neither live nor delayed data",
    COMPETING_SESSION: "another session of this user has the live data",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request: the quote so far, IB's error or remark, and whether delayed data was asked for."""

    kind: Kind
    symbol: str
    quote: Quote
    error: RequestError | None
    advisory: RequestError | None
    delayed: bool = False

    @property
    def came(self) -> bool:
        """Whether a price was shown: an index has no sides."""
        priced = self.quote.has_market or (self.kind == "underlying" and self.quote.last is not None)
        return self.error is None and priced


def next_step(code: int, kind: Kind, paper: bool) -> str:
    """What to do about a code of IB's."""
    if code == COMPETING_SESSION:
        return "log the other session (TWS, mobile, web) out, or give the gateway a second user name"
    if code == 200:
        return "correct the symbol or conid in the universe"
    if paper:
        return "share the live account's data with the paper account (Client Portal), then log the gateway in again"
    return f"subscribe to {FEEDS[kind]} in IB's Client Portal, as a non-professional, then log the gateway in again"


def judge(asked: Answer, delayed: Answer | None, *, paper: bool, market_open: bool, fallback: bool) -> Check:
    """The verdict on one contract: asked as the settings say, and once more for `delayed` data where that failed."""
    name = f"market data, {asked.kind}"
    if asked.error is not None:
        code = asked.error.code
        found = f"{asked.symbol}: error {code}, {MEANINGS.get(code, asked.error.message)}"
        step = next_step(code, asked.kind, paper)
        if delayed is None or not delayed.came:
            if code in NO_LIVE_PERMISSION and delayed is not None:
                found += "; delayed data did not come either"
            return fail(name, found, step)
        found += f"; delayed data comes{_shown(delayed.quote)}"
        if fallback:
            return warn(name, f"{found}, and rows will be marked delayed_fallback", step)
        return fail(name, f"{found}, but acquisition.delayed_fallback is off", step)
    kind = TYPES.get(asked.quote.market_data_type or 0, str(asked.quote.market_data_type))
    if asked.came and asked.quote.market_data_type in DELAYED:
        step = next_step(asked.advisory.code if asked.advisory else 10167, asked.kind, paper)
        return warn(name, f"{asked.symbol}: {kind} (type {asked.quote.market_data_type}){_shown(asked.quote)}", step)
    if asked.advisory is not None:
        code = asked.advisory.code
        found = f"{asked.symbol}: remark {code}, {MEANINGS.get(code, asked.advisory.message)}"
        return warn(name, found, next_step(code, asked.kind, paper))
    if asked.came:
        return ok(name, f"{asked.symbol}: {kind} (type {asked.quote.market_data_type}){_shown(asked.quote)}")
    if not market_open:
        return ok(name, f"{asked.symbol}: asked without an error; the market is closed, so no quote tells more")
    return warn(
        name,
        f"{asked.symbol}: neither a quote nor an error came",
        "ask again in a minute; then look at the gateway's window: its data farms may be down",
    )


def _shown(quote: Quote) -> str:
    bid = "no bid" if quote.bid is None else f"bid {quote.bid:g}"
    return f": {bid}, ask {quote.ask:g}" if quote.ask is not None else ""
