"""What the lake knows of captured slots: their runs, their errors, and the contracts that they cover. Read by SQL."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from ingest.broker.pacing import PRESETS
from ingest.capacity.estimate import Limits, Speed, Timing, speed
from ingest.capture.modes import Mode
from ingest.settings import Settings
from lake.reads import Reader

# A slot of a date: its view, and its number.
Key = tuple[str, int]


@dataclass(slots=True)
class SlotFacts:
    """One slot of one view, over all its batches, attempts and repairs.

    `errors` counts failed requests by kind (and IB's code). `covered` are the contracts with an error-free row, by
    underlying, and `frozen` those that were frozen by the slot: both count each contract once.
    """

    runs: list[dict[str, Any]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    covered: Counter[str] = field(default_factory=Counter)
    frozen: Counter[str] = field(default_factory=Counter)

    def total(self, name: str) -> int:
        """The sum of a count of ``ops/runs``: a contract that was asked again counts again."""
        return sum(run[name] or 0 for run in self.runs)

    def worst(self, name: str) -> float | None:
        """The largest of a measure of ``ops/runs``; None where no run has it."""
        return max((run[name] for run in self.runs if run[name] is not None), default=None)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the gateway that worked longest: gateways work side by side, batches one by one."""
        by_gateway: Counter[str] = Counter()
        for run in self.runs:
            by_gateway[run["gateway"] or ""] += run["elapsed_s"] or 0
        return max(by_gateway.values(), default=0)

    @property
    def contracts_per_second(self) -> float | None:
        """Contracts asked a second; None before anything has been asked."""
        return self.total("asked") / self.seconds if self.seconds and self.total("asked") else None

    def bound(self, settings: Settings) -> Speed:
        """The most contracts a second that the limits of the settings allow at the latency that was measured."""
        latency = self.worst("latency_p50_ms")
        seconds = latency / 1000 if latency else Timing().streaming_s
        mode: Mode = "snapshot" if self.runs and all(run["mode"] == "snapshot" for run in self.runs) else "streaming"
        timing = Timing(streaming_s=seconds, snapshot_s=seconds)
        one = speed(mode, PRESETS[settings.acquisition.preset], Limits.of(settings), timing)
        gateways = len({run["gateway"] for run in self.runs}) or 1
        return Speed(one.contracts_per_second * gateways, one.bound_by)

    @property
    def coverage(self) -> float | None:
        """Covered contracts ÷ frozen ones over all underlyings; None without a frozen set."""
        frozen = self.frozen.total()
        return self.covered.total() / frozen if frozen else None

    @property
    def worst_underlying(self) -> tuple[str, float] | None:
        """The underlying with the least coverage, and that."""
        shares = [(self.covered[symbol] / frozen, symbol) for symbol, frozen in self.frozen.items() if frozen]
        return (min(shares)[1], min(shares)[0]) if shares else None


def slot_facts(reads: Reader, day: date, wanted: Sequence[Key]) -> dict[Key, SlotFacts]:
    """The facts of the `wanted` slots of a date."""
    facts = {key: SlotFacts() for key in wanted}
    if not wanted:
        return facts
    slots = ", ".join(sorted({str(slot) for _, slot in wanted}))
    these = f"trade_date = date '{day}' and slot_30m in ({slots})"
    by_run: dict[str, SlotFacts] = {}
    for run in reads.rows("ops/runs", f"{these} and view is not null order by started_at"):
        if found := facts.get((run["view"], run["slot_30m"])):
            found.runs.append(run)
            by_run[run["ingest_id"]] = found
    for row in reads.rows(
        "ops/errors",
        f"trade_date = date '{day}' group by all",
        "ingest_id, error_type, code, count(*) as n",
    ):
        if found := by_run.get(row["ingest_id"]):
            found.errors[row["error_type"] if row["code"] is None else f"{row['error_type']} {row['code']}"] += row["n"]
    for row in reads.rows(
        "raw/option_quotes",
        f"{these} and not snapshot_error group by all",
        "view, slot_30m, underlying, count(distinct conid) as n",
    ):
        if found := facts.get((row["view"], row["slot_30m"])):
            found.covered[row["underlying"]] = row["n"]
    for underlying, first_slots in _frozen(reads, day).items():
        for (_, slot), found in facts.items():
            if known := sum(n for first, n in first_slots.items() if first <= slot):
                found.frozen[underlying] = known
    return facts


def _frozen(reads: Reader, day: date) -> dict[str, Counter[int]]:
    """By underlying, how many contracts joined the frozen set of a date for which slot."""
    found: dict[str, Counter[int]] = defaultdict(Counter)
    first = reads.rows(
        "raw/contracts", f"trade_date = date '{day}' group by all", "underlying, conid, min(first_seen_slot) as slot"
    )
    for row in first:
        found[row["underlying"]][row["slot"]] += 1
    return found
