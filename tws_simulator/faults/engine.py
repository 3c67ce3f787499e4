"""The faults of a running gateway: which are in force, whom they strike, how often they still may."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

from tws_simulator.faults import scenario as s
from tws_simulator.faults.targets import Target
from tws_simulator.faults.timing import Phase
from tws_simulator.faults.treatment import UNTREATED, Treatment, treat
from tws_simulator.market import FROZEN, LIVE
from tws_simulator.protocol import codes
from tws_simulator.worlds.instruments import Instrument, Option, word

_TICKS = (
    s.Silent, s.Slow, s.OneSided, s.EmptyModel, s.NoModel, s.Sentinels, s.Crossed, s.Stale, s.WrongOrder,
    s.FractionalSizes, s.OddLots,
)  # fmt: skip
_CUT_OFF = (s.ConnectionLost, s.NightlyReset)
_FARM_OF = {"contract_details": "secdefnj", "option_parameters": "secdefnj", "history": "ushmds"}


class Refusal(NamedTuple):
    """An error that takes the place of an answer; without a code there is no answer at all."""

    code: int | None
    text: str = ""


NO_ANSWER = Refusal(None)


class Advisory(NamedTuple):
    """A message that comes beside the answer."""

    code: int
    text: str


class LiveFault:
    """One fault of a running gateway."""

    def __init__(self, number: int, spec: s.Fault, seed: int) -> None:
        self.number = number
        self.spec = spec
        self.in_force = False
        self.strikes = 0
        self._seed = word(seed, number)
        self._phase = Phase(spec)
        self._draws = 0
        self._struck: Counter[int] = Counter()

    def look(self, now: datetime, uptime: float, requests: int) -> bool:
        """Look again whether it is in force; True when that has changed."""
        before, self.in_force = self.in_force, self._phase.active(now, uptime, requests)
        return before != self.in_force

    def fits(self, instrument: Instrument) -> bool:
        """Whether it is in force and meant for `instrument`."""
        return self.in_force and isinstance(self.spec, Target) and self.spec.fits(instrument, self._seed)

    def strikes_now(self, error: s.Error, instrument: Instrument) -> bool:
        """Whether this request is struck, by chance and by what is left of its times; counts it."""
        if error.times is not None and self.strikes >= error.times:
            return False
        if error.times_each is not None and self._struck[instrument.conid] >= error.times_each:
            return False
        if error.probability < 1:
            self._draws += 1
            if word(self._seed, "draw", self._draws) >= error.probability * 2**64:
                return False
        self.strikes += 1
        self._struck[instrument.conid] += 1
        return True


class Faults:
    """All faults of one gateway. `look` decides which are in force; every other answer is about those."""

    def __init__(
        self, scenario: s.Scenario, default_seed: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._seed = default_seed if scenario.seed is None else scenario.seed
        self._monotonic = monotonic
        self._started = monotonic()
        self._numbers = 0
        self.live: list[LiveFault] = []
        for spec in scenario.faults:
            self.add(spec)

    def __bool__(self) -> bool:
        return bool(self.live)

    def add(self, spec: s.Fault) -> LiveFault:
        """One more fault, from now on; times `after` count from the start of the gateway all the same."""
        self._numbers += 1
        fault = LiveFault(self._numbers, spec, self._seed)
        self.live.append(fault)
        return fault

    def clear(self) -> list[LiveFault]:
        """Forget all; those that were in force."""
        ended = [fault for fault in self.live if fault.in_force]
        self.live.clear()
        for fault in ended:
            fault.in_force = False
        return ended

    def look(self, now: datetime, requests: int) -> list[LiveFault]:
        """Decide anew which faults are in force; those for which that has changed."""
        uptime = self._monotonic() - self._started
        return [fault for fault in self.live if fault.look(now, uptime, requests)]

    def active(self, *kinds: type[s.Fault]) -> Iterator[s.Fault]:
        """The faults of these kinds that are in force."""
        return (fault.spec for fault in self.live if fault.in_force and isinstance(fault.spec, kinds))

    def any_active(self, *kinds: type[s.Fault]) -> bool:
        """Whether a fault of these kinds is in force."""
        return next(self.active(*kinds), None) is not None

    def farm_is_down(self, farm: str) -> bool:
        """Whether `farm` cannot be reached."""
        return self.any_active(*_CUT_OFF) or any(
            isinstance(fault, s.FarmDown) and fault.farm == farm for fault in self.active(s.FarmDown)
        )

    def refusal(self, request: s.Request, instrument: Instrument, requested_type: int) -> Refusal | None:
        """What takes the place of the answer to `request`; None when it is answered."""
        for fault in self.live:
            spec = fault.spec
            if not isinstance(spec, s.Error) or request not in spec.requests or not fault.fits(instrument):
                continue
            if fault.strikes_now(spec, instrument):
                return Refusal(spec.code, spec.message or codes.text_of(spec.code))
        if request == "market_data":
            return self._unpermitted(instrument, requested_type)
        if self.farm_is_down(_FARM_OF[request]):
            return NO_ANSWER if request != "history" else Refusal(codes.HISTORICAL_ERROR, codes.HISTORY_FARM_DOWN_TEXT)
        return None

    def advisories(self, instrument: Instrument, requested_type: int) -> Iterator[Advisory]:
        """What is said of a market data request that is answered all the same."""
        if requested_type in (LIVE, FROZEN):
            for partial in self._partly_permitted(instrument):
                yield Advisory(partial.code, codes.partial_text(delayed=partial.delayed))
        elif self.delayed_only(instrument):
            yield Advisory(codes.DELAYED_IS_SHOWN, codes.text_of(codes.DELAYED_IS_SHOWN))
        for fault in self.live:
            if isinstance(fault.spec, s.Advisory) and fault.fits(instrument):
                yield Advisory(fault.spec.code, fault.spec.message or codes.text_of(fault.spec.code))

    def delayed_only(self, instrument: Instrument) -> bool:
        """Whether there is no live data of `instrument`, or not all of it."""
        return any(
            isinstance(fault.spec, s.DelayedOnly | s.PartialPermission) and fault.fits(instrument)
            for fault in self.live
        )

    def client_id_stuck(self, client_id: int) -> str | None:
        """How ``startApi`` with `client_id` goes wrong: ``silent``, ``closed``, or None where it does not."""
        return next(
            (
                fault.how
                for fault in self.active(s.ClientIdStuck)
                if isinstance(fault, s.ClientIdStuck) and client_id in fault.client_ids
            ),
            None,
        )

    def never_ends(self, download: s.Download) -> bool:
        """Whether the end marker of `download` is withheld."""
        return any(
            isinstance(fault, s.UnendedDownload) and download in fault.downloads
            for fault in self.active(s.UnendedDownload)
        )

    def treatment(self, instrument: Instrument, requested_type: int) -> Treatment:
        """What happens to the ticks of `instrument`."""
        if not self.live:
            return UNTREATED
        striking: list[s.Fault] = [
            fault.spec for fault in self.live if isinstance(fault.spec, _TICKS) and fault.fits(instrument)
        ]
        if requested_type in (LIVE, FROZEN):
            striking += self.active(s.CompetingSession)
            striking += self._partly_permitted(instrument)
        if self.farm_is_down("usopt" if isinstance(instrument, Option) else "usfarm"):
            striking += self.active(*_CUT_OFF, s.FarmDown)
        return treat(striking) if striking else UNTREATED

    def _partly_permitted(self, instrument: Instrument) -> Iterator[s.PartialPermission]:
        return (
            fault.spec for fault in self.live if isinstance(fault.spec, s.PartialPermission) and fault.fits(instrument)
        )

    def _unpermitted(self, instrument: Instrument, requested_type: int) -> Refusal | None:
        live_wanted = requested_type in (LIVE, FROZEN)
        if live_wanted and self.any_active(s.CompetingSession):
            return Refusal(codes.COMPETING_SESSION, codes.text_of(codes.COMPETING_SESSION))
        for fault in self.live:
            if not fault.fits(instrument):
                continue
            if isinstance(fault.spec, s.NoPermission):
                code = codes.NOT_SUBSCRIBED if live_wanted else codes.DELAYED_NOT_ENABLED
                return Refusal(code, codes.text_of(code))
            if isinstance(fault.spec, s.PartialPermission) and not (live_wanted or fault.spec.delayed):
                return Refusal(codes.DELAYED_NOT_ENABLED, codes.text_of(codes.DELAYED_NOT_ENABLED))
            if isinstance(fault.spec, s.DelayedOnly) and live_wanted:
                return Refusal(fault.spec.code, codes.text_of(fault.spec.code))
        return None
