"""Every metric that is exposed: its name, meaning and labels, once. The document and the board are held against this.

Names follow Prometheus: a base unit at the end (`_seconds`, `_bytes`, `_ratio`), `_total` for what only grows, and the
instant of an event rather than its age (https://prometheus.io/docs/practices/naming/). What is counted "today" is
counted since New York's midnight, when it begins at 0 again, which `rate` and `increase` take for a restart.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["gauge", "counter"]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, what a value of it means, and the names of its labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """A counter by its name, else a gauge."""
        return "counter" if self.name.endswith("_total") else "gauge"


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the metric `name`, with the values of its labels in their order."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


STEP = ("step",)
METRIC = ("metric",)
TABLE = ("table",)
PLACE = ("place",)
FAMILIES = (
    # The collection itself.
    Family("chainlake_build_info", "1; the version of Chainlake and the origin of the lake", ("version", "origin")),
    Family("chainlake_collected_timestamp_seconds", "when these values were read"),
    Family("chainlake_collection_seconds", "wall-clock seconds that reading a part took", ("part",)),
    Family("chainlake_collection_failed", "1 when a part could not be read, whose values are missing then", ("part",)),
    # Slots of today's session.
    Family("chainlake_slots_due", "slots of today's session that have begun; 0 on a day without a session"),
    Family("chainlake_slots_captured", "slots of today that something was captured of"),
    Family("chainlake_slots_missed", "slots of today whose window is over and of which nothing was captured"),
    # The latest slot that something was captured of.
    Family("chainlake_last_slot_timestamp_seconds", "nominal instant of the latest slot that was captured"),
    Family("chainlake_last_slot_coverage_ratio", "its contracts with an error-free row / contracts frozen by then"),
    Family("chainlake_last_slot_worst_coverage_ratio", "the same of the underlying that is covered least"),
    Family("chainlake_last_slot_seconds", "wall-clock seconds that it took"),
    Family("chainlake_last_slot_contracts_per_second", "contracts asked a second in it"),
    Family(
        "chainlake_last_slot_bound_contracts_per_second",
        "the most that the limits of the settings allow at the latency measured, and which of them",
        ("bound_by",),
    ),
    # Work of today.
    Family("chainlake_runs_total", "runs of steps that ended today", ("step", "status")),
    Family("chainlake_contracts_asked_total", "contracts asked for today; one asked again counts again", STEP),
    Family("chainlake_contracts_captured_total", "contracts that answered without error today", STEP),
    Family("chainlake_contracts_failed_total", "contracts that ended in an error row today", STEP),
    Family("chainlake_messages_total", "messages sent to the broker today", STEP),
    Family("chainlake_pacing_errors_total", "errors 100, 101 and 420 of the broker today", STEP),
    Family(
        "chainlake_errors_total",
        "errors today, by kind and IB's code (empty: none)",
        ("step", "error_type", "code"),
    ),
    Family("chainlake_step_last_run_timestamp_seconds", "when a step last ended, whatever came of it", STEP),
    Family("chainlake_step_last_ok_timestamp_seconds", "when a step last ended well", STEP),
    # Incidents.
    Family("chainlake_open_incidents", "incidents that are open", ("cause", "severity", "acknowledged")),
    Family("chainlake_oldest_open_incident_timestamp_seconds", "when the oldest of them was opened"),
    # Publications and quality.
    Family("chainlake_publication_status", "1 for the status of the latest published date, else 0", ("status",)),
    Family("chainlake_last_publication_timestamp_seconds", "when a date was last published"),
    Family("chainlake_published_date_timestamp_seconds", "the latest trade date that is published, midnight UTC"),
    Family("chainlake_unpublished_dates", "sessions of the last 10 days past their deadline that are not published"),
    Family("chainlake_quality_value", "a quality metric of the latest published date, in its own unit", METRIC),
    Family("chainlake_quality_threshold", "its limit", METRIC),
    Family("chainlake_quality_breached", "1 when its limit does not hold, 0 when it does or is not due", METRIC),
    Family("chainlake_open_interest_filled_ratio", "rows with open interest, of the latest date whose number is due"),
    # Storage.
    Family("chainlake_table_bytes", "bytes of the live data files of a table", TABLE),
    Family("chainlake_table_files", "its live data files", TABLE),
    Family("chainlake_table_version", "its Delta version", TABLE),
    Family("chainlake_disk_free_bytes", "bytes free where the lake, or the state folder, is", PLACE),
    Family("chainlake_disk_used_ratio", "used / (used + free) there", PLACE),
)
BY_NAME = {family.name: family for family in FAMILIES}
