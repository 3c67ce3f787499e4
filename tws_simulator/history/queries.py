"""The historical data queries of one connection that are open."""

import asyncio
from collections.abc import Callable, Coroutine

import structlog

from tws_simulator.history.pacing import HistoryLimits

_log = structlog.get_logger(__name__)


class HistoryQueries:
    """Queries by request id, each a task that ends with its answer; what they hold of the account's limit is freed."""

    def __init__(self, limits: HistoryLimits) -> None:
        self._limits = limits
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def __contains__(self, req_id: int) -> bool:
        return req_id in self._tasks

    def start(self, req_id: int, work: Coroutine[None, None, None], failed: Callable[[], None]) -> None:
        """Open a query; `work` answers it, and `failed` is called should it not be able to."""
        self._limits.open += 1
        task = self._tasks[req_id] = asyncio.get_running_loop().create_task(work, name=f"history-{req_id}")
        task.add_done_callback(lambda done: self._ended(req_id, done, failed))

    def cancel(self, req_id: int) -> bool:
        """End a query without an answer; False when none is open."""
        task = self._tasks.pop(req_id, None)
        if task is None:
            return False
        self._limits.open -= 1
        task.cancel()
        return True

    def close(self) -> None:
        """End all of them."""
        for req_id in list(self._tasks):
            self.cancel(req_id)

    def _ended(self, req_id: int, task: asyncio.Task[None], failed: Callable[[], None]) -> None:
        if self._tasks.get(req_id) is task:
            del self._tasks[req_id]
            self._limits.open -= 1
        if not task.cancelled() and (reason := task.exception()) is not None:
            _log.error("history could not be served", request=req_id, exc_info=reason)
            failed()
