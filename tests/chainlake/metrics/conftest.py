"""The empty watched lake of the tests of the watchdog."""

from tests.chainlake.ops.monitoring.conftest import watched

__all__ = ["watched"]
