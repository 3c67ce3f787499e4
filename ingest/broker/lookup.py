"""Questions that the broker answers once (contracts, historical bars), each with the error that it ended in."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TypeVar

from ingest.broker.library import IB, Contract, Option, ib_contract
from ingest.broker.session import BrokerSession
from ingest.broker.subscription import RequestError
from ingest.contracts import (
    LARGEST,
    ChainParameters,
    OptionContract,
    OptionSpec,
    Underlying,
    ib_date,
    listed,
    occ_expiry,
)
from ingest.errors import BrokerUnreachable, MalformedAnswer

T = TypeVar("T")

# "No security definition has been found": no such contract.
NOT_LISTED = 200
ANSWER_TIMEOUT_S = 60.0
# Chains come once for each exchange; this one has them all.
SMART = "SMART"
# Not a code of IB's: several contracts fit, or none and no reason was given.
UNSETTLED = 0
UNNAMED = "IB named no contract, and gave no reason: several may fit"


@dataclass(frozen=True, slots=True)
class Bar:
    """One historical bar, as far as it is of use to tell what is there: when it began, and its volume."""

    start: date | datetime
    close: float
    volume: float


class Lookup:
    """Asks over a session's connection, and counts the messages there; nothing here paces.

    Everything raises BrokerUnreachable when the connection is lost. What has a `timeout_s` raises TimeoutError when it
    is left unanswered, the others BrokerUnreachable after a minute. The library tells an error of a request apart from
    an empty answer only through its event.
    """

    def __init__(self, session: BrokerSession) -> None:
        self._session = session
        self._client: IB | None = None
        # By the identity of the contract that was asked about, and by the id of a request that goes without one.
        self._errors: dict[int, RequestError | None] = {}
        self._refusals: dict[int, RequestError | None] = {}

    async def known_underlyings(self, underlyings: Sequence[Underlying]) -> list[Underlying]:
        """Those of `underlyings` that IB knows, with their conid."""
        contracts = [ib_contract(underlying) for underlying in underlyings]
        await self._answer(self._session.client.qualifyContractsAsync(*contracts), len(contracts))
        # A contract that was not found stays as it was asked: it has no local symbol.
        return [
            replace(underlying, conid=contract.conId)
            for underlying, contract in zip(underlyings, contracts, strict=True)
            if contract.localSymbol and 0 < contract.conId <= LARGEST
        ]

    async def option_chain(self, underlying: Underlying) -> list[ChainParameters] | RequestError:
        """Trading classes, expirations (last trade dates) and strikes of an underlying, on SMART, or IB's refusal.

        Raises MalformedAnswer when what IB says of one of them makes no class, and names it.
        """
        ib = self._ib
        # The next id is that of the request: nothing comes in between.
        request_id = ib.client.getReqId() + 1
        self._refusals[request_id] = None
        try:
            chains = await self._answer(
                ib.reqSecDefOptParamsAsync(underlying.symbol, "", underlying.sec_type, underlying.conid or 0)
            )
        finally:
            refusal = self._refusals.pop(request_id)
        if refusal is not None and not chains:
            return refusal
        try:
            return [
                ChainParameters.described(
                    chain.exchange, chain.tradingClass, chain.multiplier, chain.expirations, chain.strikes
                )
                for chain in chains
                if chain.exchange == SMART
            ]
        except ValueError as reason:
            chain = f"the chain of {underlying.symbol}"
            raise MalformedAnswer(f"IB describes {chain} in words that make none: {reason}") from None

    async def server_time(self) -> datetime:
        """What the gateway's clock shows, in whole seconds (UTC)."""
        shown: datetime = await self._answer(self._session.client.reqCurrentTimeAsync())
        return shown

    async def options(self, specs: Sequence[OptionSpec], timeout_s: float) -> list[OptionContract | RequestError]:
        """For each of `specs` the contract that is listed, or the error: code NOT_LISTED when there is none."""
        contracts = [
            Option(
                symbol=spec.underlying,
                lastTradeDateOrContractMonth=f"{spec.last_trade_date:%Y%m%d}",
                strike=spec.strike,
                right=spec.right,
                exchange=spec.exchange,
                multiplier=spec.multiplier,
                currency="USD",
                tradingClass=spec.trading_class,
            )
            for spec in specs
        ]
        errors = await self._asked(self._ib.qualifyContractsAsync(*contracts), contracts, timeout_s)
        return [
            _option(spec, contract) if contract.conId else error or RequestError(UNSETTLED, UNNAMED)
            for spec, contract, error in zip(specs, contracts, errors, strict=True)
        ]

    async def underlyings(self, underlyings: Sequence[Underlying], timeout_s: float) -> list[Underlying | RequestError]:
        """For each of `underlyings` itself with its conid, or the error: code NOT_LISTED when IB does not know it."""
        contracts = [ib_contract(underlying) for underlying in underlyings]
        errors = await self._asked(self._ib.qualifyContractsAsync(*contracts), contracts, timeout_s)
        # A contract that was not found stays as it was asked: it has no local symbol.
        for contract in contracts:
            if contract.localSymbol:
                self._session.known_contract = contract
        return [
            replace(underlying, conid=contract.conId)
            if contract.localSymbol and 0 < contract.conId <= LARGEST
            else error or RequestError(UNSETTLED, UNNAMED)
            for underlying, contract, error in zip(underlyings, contracts, errors, strict=True)
        ]

    async def bars(
        self, contract: OptionContract, kind: str, bar_size: str, duration: str, timeout_s: float
    ) -> list[Bar] | RequestError:
        """Historical bars of regular hours up to now, oldest first, or the error that IB gave instead."""
        asked = Contract(conId=contract.conid, exchange=contract.exchange)
        found: list[Bar] = []

        async def collect() -> None:
            # The library's own time-out cancels the request, and passes for an empty answer without an error.
            bars = await self._ib.reqHistoricalDataAsync(asked, "", duration, bar_size, kind, True, timeout=timeout_s)
            found.extend(Bar(bar.date, bar.close, bar.volume) for bar in bars)

        (error,) = await self._asked(collect(), [asked], timeout_s + 1)
        if not found and error is None:
            raise TimeoutError
        return found if error is None or found else error

    async def _answer(self, request: Awaitable[T], messages: int = 1) -> T:
        # The library's requests wait for ever when the gateway stays silent.
        address = self._session.address
        self._session.messages += messages
        try:
            return await asyncio.wait_for(request, ANSWER_TIMEOUT_S)
        except TimeoutError:
            raise BrokerUnreachable(
                f"{address} left a request without an answer for {ANSWER_TIMEOUT_S:.0f} s"
            ) from None
        except ConnectionError:
            raise BrokerUnreachable(f"the connection to {address} was lost") from None

    async def _asked(
        self, request: Awaitable[object], contracts: Sequence[Contract], timeout_s: float
    ) -> list[RequestError | None]:
        """Wait for a request about `contracts`; the error of each."""
        self._session.messages += len(contracts)
        self._errors.update(dict.fromkeys(map(id, contracts)))
        try:
            await asyncio.wait_for(request, timeout_s)
        except ConnectionError:
            raise BrokerUnreachable(f"the connection to {self._session.address} was lost") from None
        finally:
            errors = [self._errors.pop(id(contract)) for contract in contracts]
        return errors

    @property
    def _ib(self) -> IB:
        # A connection that came back is another client.
        if self._client is not self._session.client:
            self._client = self._session.client
            self._client.errorEvent += self._error_arrived
        return self._client

    def _error_arrived(self, request_id: int, code: int, message: str, contract: Contract | None) -> None:
        if id(contract) in self._errors:
            self._errors[id(contract)] = RequestError(code, message)
        elif request_id in self._refusals:
            self._refusals[request_id] = RequestError(code, message)


def _option(spec: OptionSpec, contract: Contract) -> OptionContract | RequestError:
    """The contract that was asked for, or what of it cannot be right."""
    try:
        return listed(
            OptionContract(
                conid=contract.conId,
                underlying=spec.underlying,
                symbol=contract.localSymbol,
                trading_class=contract.tradingClass,
                expiry=occ_expiry(contract.localSymbol),
                last_trade_date=ib_date(contract.lastTradeDateOrContractMonth),
                right=spec.right,
                strike=contract.strike,
                multiplier=float(contract.multiplier),
                exchange=spec.exchange,
            )
        )
    except ValueError as reason:
        message = f"IB describes contract {contract.conId} in words that make none: {reason}"
        return RequestError(UNSETTLED, message, contract.conId if 0 < contract.conId <= LARGEST else None)
