"""One look at everything: what is wrong now, and what was looked at. Quick enough for every five minutes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chainlake.ops.incidents.causes import Breach, FlowTrouble, Key
from chainlake.ops.monitoring import conditions, quality, timeliness
from chainlake.ops.monitoring.facts import Facts, gather
from chainlake.ops.monitoring.findings import Findings
from ingest.settings import Settings
from lake.store import Lake

__all__ = ["FlowTrouble", "Look", "judge", "look"]


@dataclass(frozen=True, slots=True)
class Look:
    """What a look has found, and the causes and dates that it examined: those without a breach are well."""

    breaches: tuple[Breach, ...]
    examined: frozenset[Key]


def look(
    settings: Settings,
    lake: Lake,
    now: datetime,
    *,
    clock_skew_s: float | None = None,
    gateway_error: str | None = None,
    flows: Sequence[FlowTrouble] | None = None,
) -> Look:
    """Look at the last sessions of `lake` as of `now` (aware, pipeline time).

    `clock_skew_s` is the gateway's clock minus the host's, and tells that the gateway answers; `gateway_error` why it
    does not; both None: nobody asked it. `flows` is all that Prefect finds wrong now, where an empty list closes the
    incidents of flows; None: Prefect was not asked. Raises LakeError when the lake cannot be read.
    """
    return judge(gather(settings, lake, now), clock_skew_s=clock_skew_s, gateway_error=gateway_error, flows=flows)


def judge(
    facts: Facts,
    *,
    clock_skew_s: float | None = None,
    gateway_error: str | None = None,
    flows: Sequence[FlowTrouble] | None = None,
) -> Look:
    """Apply every rule to `facts`. Pure."""
    findings = Findings()
    timeliness.slots(facts, findings)
    timeliness.steps(facts, findings)
    timeliness.closing(facts, findings)
    quality.today_so_far(facts, findings)
    quality.metrics(facts, findings)
    conditions.broker(facts, findings, clock_skew_s, gateway_error)
    conditions.host(facts, findings)
    conditions.log(facts, findings)
    conditions.flows(facts, findings, flows)
    return Look(tuple(findings.breaches.values()), frozenset(findings.examined))
