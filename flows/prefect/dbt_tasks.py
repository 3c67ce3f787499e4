"""dbt's models and tests as task runs of the flow that builds them: the extra ``dbt-tasks``."""

from typing import TYPE_CHECKING, Any

from ingest.errors import UsageError

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult


LEVELS = ("--log-level", "--log-level-file")


class TaskRuns:
    """A `flows.models.Runner` by prefect-dbt, of the parsed project `manifest`."""

    def __init__(self, manifest: Any) -> None:
        self._manifest = manifest

    def invoke(self, args: list[str]) -> "dbtRunnerResult":
        """Run a dbt command; what fails is in its result, as ever. Raises UsageError without the extra."""
        try:
            from prefect_dbt import PrefectDbtRunner
        except ImportError:
            raise UsageError(
                "schedule.dbt_tasks needs prefect-dbt: `pip install -e .[dbt-tasks]`, or set it to false"
            ) from None
        from dbt.cli.main import dbtRunnerResult

        try:
            result: dbtRunnerResult = PrefectDbtRunner(
                manifest=self._manifest, raise_on_failure=False, disable_assets=True
            ).invoke(_quiet(args))
        except ValueError as error:
            # Its way to say that dbt itself could not run.
            return dbtRunnerResult(success=False, exception=error)
        return result


def _quiet(args: list[str]) -> list[str]:
    """Without the levels of dbt's logs: prefect-dbt sets them itself, and does not know the level ``none``."""
    return [
        word for before, word in zip(["", *args], args, strict=False) if word not in LEVELS and before not in LEVELS
    ]
