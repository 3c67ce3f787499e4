"""Checks of the gateway: connection and account, its clock, its farms, and one quote of an underlying and an option."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from datetime import time as clock_time

from chainlake.ops.doctor.check import Check, fail, ok, one_line, warn
from chainlake.ops.doctor.permissions import Answer, Kind, judge
from chainlake.ops.doctor.tables import origin_check
from ingest.broker import BrokerSession, RequestError, Subscription
from ingest.broker.codes import NO_LIVE_PERMISSION
from ingest.broker.lookup import Lookup
from ingest.calendar.sessions import NEW_YORK, session_on
from ingest.contracts import ChainParameters, OptionContract, OptionSpec, Underlying
from ingest.discovery.selection import is_monthly
from ingest.errors import BrokerUnreachable
from ingest.settings import IbSettings, Settings
from lake.store import Lake

PAPER_PORTS = (4002, 7497)
# A snapshot of IB's may take 11 s; a stream that has shown nothing by then will not.
ANSWER_S = 8.0
# After an error 354 the same contract is asked for again.
DELAYED = 3
NEAREST_STRIKES = 5
SATURDAY, SUNDAY, MONDAY = 5, 6, 0
# Beyond this the wrong half-hour may be captured.
LARGE_SKEW_S = 60.0
# New York; Sunday to Friday (IBKR, system status).
RESET = (clock_time(0, 15), clock_time(1, 45))


async def broker_checks(
    settings: Settings, universe: Sequence[Underlying], lake: Lake | None, now: datetime
) -> list[Check]:
    """All checks of every gateway of the settings; one that cannot be reached is one failed check."""
    checks, simulated = [], True
    for ib in settings.ib.each_gateway:
        try:
            async with BrokerSession.connect(ib) as session:
                simulated &= not session.origin.startswith("ibkr")
                checks += [_connection(session), await _clock(session, settings)]
                checks += [origin_check(lake, session.origin)] if lake else []
                checks += await _market_data(session, settings, universe)
                checks.append(_farms(session))
        except BrokerUnreachable as error:
            simulated = False
            checks.append(replace(fail("connection", one_line(error), _how_to_connect(ib)), unreachable=True))
    return checks if simulated else [*checks, *ib_hours(now)]


def _how_to_connect(ib: IbSettings) -> str:
    return (
        f"in TWS or Gateway: enable socket clients, trust this host, and let port {ib.port} be the one of its API "
        "settings (4001 live, 4002 paper; 7496 and 7497 in TWS)"
    )


def _connection(session: BrokerSession) -> Check:
    kind = {"ibkr-live": "a live account", "ibkr-paper": "a paper account"}.get(session.origin, session.origin)
    found = f"{session.address}, client id {session.client_id}: {kind}"
    if session.client_id != session.settings.client_id:
        return warn("connection", f"{found}; client id {session.settings.client_id} is in use", "end what uses it")
    if session.origin == "ibkr-live" and session.settings.port in PAPER_PORTS:
        return warn(
            "connection", found, f"port {session.settings.port} is that of paper accounts: see that this is meant"
        )
    if session.origin == "ibkr-paper":
        found += ", which has live data only where the live account shares it"
    return ok("connection", found)


async def _clock(session: BrokerSession, settings: Settings) -> Check:
    sent = session.clock.now()
    server_time = await Lookup(session).server_time()
    skew = skew_s(server_time, sent, session.clock.now())
    if not session.origin.startswith("ibkr") and session.control is not None:
        return ok("clock", f"the gateway simulates {server_time.astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S} New York")
    found = f"host and gateway differ by {abs(skew):.1f} s" if skew else "host and gateway agree"
    if abs(skew) <= settings.watch.clock_skew_s:
        return ok("clock", found)
    step = "synchronize the host's clock (timedatectl set-ntp true, or System Settings on a Mac)"
    return fail("clock", found, step) if abs(skew) > LARGE_SKEW_S else warn("clock", found, step)


def skew_s(server_time: datetime, sent: datetime, received: datetime) -> float:
    """Seconds by which the gateway's clock is ahead of the host's; 0 while both may be the same.

    `server_time` is in whole seconds, cut off, and was read between `sent` and `received` on the host's clock.
    """
    least = (server_time - received).total_seconds()
    most = (server_time + timedelta(seconds=1) - sent).total_seconds()
    return 0.0 if least <= 0 <= most else min(least, most, key=abs)


def _farms(session: BrokerSession) -> Check:
    kinds = sorted(outage.kind for outage in session.outages if outage.kind != "competing_session")
    if kinds:
        return warn(
            "data farms", f"out of reach: {', '.join(kinds)}", "wait some minutes; IB's system status page tells"
        )
    return ok("data farms", "none is said to be down")


# -- market data -------------------------------------------------------------------------------------------------------


async def _market_data(session: BrokerSession, settings: Settings, universe: Sequence[Underlying]) -> list[Check]:
    wanted = universe[:1]
    if not wanted:
        return [fail("market data", "the universe names no underlying", "give --symbols of one")]
    known = await Lookup(session).known_underlyings(wanted)
    if not known:
        return [
            fail(
                "market data, underlying", f"IB does not know {wanted[0].symbol}", "correct the universe, or --symbols"
            )
        ]
    now = session.clock.now()
    here = session_on(now.astimezone(NEW_YORK).date())
    is_open = here is not None and here.open <= now < here.close
    if is_open:
        session.use_market_data_type(settings.ib.market_data_type)
    else:
        # The last quote of the close: live data shows no market now.
        session.use_market_data_type(2 if settings.ib.market_data_type <= 2 else 4)
    checks = []
    first = await _ask(session, known[0])
    checks.append(await _judged(session, settings, first, known[0], is_open))
    option = await _option(session, known[0], first.quote.last or first.quote.close, now.astimezone(NEW_YORK).date())
    if option is None:
        checks.append(warn("market data, option", f"no option of {known[0].symbol} was found", "give other --symbols"))
    else:
        checks.append(await _judged(session, settings, await _ask(session, option), option, is_open))
    return checks


async def _judged(
    session: BrokerSession, settings: Settings, asked: Answer, contract: Underlying | OptionContract, is_open: bool
) -> Check:
    delayed = None
    if asked.error is not None and asked.error.code in NO_LIVE_PERMISSION:
        session.use_market_data_type(DELAYED if is_open else DELAYED + 1)
        delayed = await _ask(session, contract)
    return judge(
        asked,
        delayed,
        paper=session.origin == "ibkr-paper",
        market_open=is_open,
        fallback=settings.acquisition.delayed_fallback == "auto",
    )


async def _ask(session: BrokerSession, contract: Underlying | OptionContract) -> Answer:
    kind: Kind
    if isinstance(contract, OptionContract):
        kind, symbol = "option", " ".join(contract.symbol.split())
        subscription = session.subscribe_option(contract, "")
    else:
        kind, symbol = "underlying", contract.symbol
        subscription = session.subscribe_underlying(contract, "")
    try:
        await _answered(subscription)
        quote = subscription.quote()
    finally:
        session.cancel(subscription)
    return Answer(kind, symbol, quote, subscription.error, subscription.advisory, subscription.delayed)


async def _answered(subscription: Subscription) -> None:
    """Return once both sides or an error have come, or it has taken too long."""
    ends = time.monotonic() + ANSWER_S
    while subscription.error is None and not subscription.ended and time.monotonic() < ends:
        if subscription.quote().has_market:
            return
        await asyncio.sleep(0.05)


async def _option(
    session: BrokerSession, underlying: Underlying, price: float | None, today: date
) -> OptionContract | None:
    """A call near the money of the next monthly expiry."""
    chains = await Lookup(session).option_chain(underlying)
    if isinstance(chains, RequestError):
        return None
    chain = next((one for one in chains if one.exchange == "SMART" and one.strikes), None)
    if chain is None:
        return None
    expiry, middle = _expiry(chain, today), sorted(chain.strikes)[len(chain.strikes) // 2]
    if expiry is None:
        return None
    near = sorted(chain.strikes, key=lambda strike: abs(strike - (price or middle)))[:NEAREST_STRIKES]
    specs = [
        OptionSpec(underlying.symbol, chain.trading_class, expiry, "C", strike, chain.multiplier) for strike in near
    ]
    try:
        found = await Lookup(session).options(specs, ANSWER_S)
    except TimeoutError:
        return None
    return next((one for one in found if isinstance(one, OptionContract)), None)


def _expiry(chain: ChainParameters, today: date) -> date | None:
    later = sorted(day for day in chain.expirations if day > today)
    return next((day for day in later if is_monthly(day)), later[0] if later else None)


# -- IB's own hours ----------------------------------------------------------------------------------------------------


def ib_hours(now: datetime) -> list[Check]:
    """IB's nightly reset, and its weekly login. Pure."""
    local = now.astimezone(NEW_YORK)
    checks = []
    if local.weekday() != SATURDAY and RESET[0] <= local.time() < RESET[1]:
        checks.append(warn("ib reset", "IB resets its servers until 01:45 New York", "look again after 01:45"))
    else:
        checks.append(ok("ib reset", "IB resets its servers from 00:15 to 01:45 New York, Sunday to Friday"))
    logged_out = local.weekday() in (SATURDAY, SUNDAY) or (
        local.weekday() == MONDAY and local.time() < clock_time(9, 25)
    )
    words = "the gateway needs its weekly login, with the second factor, after Sunday 01:00 New York"
    if logged_out:
        checks.append(warn("ib login", words, "log in before Monday's discovery, and run chainlake doctor again"))
    else:
        checks.append(ok("ib login", words))
    return checks
