"""The control port: steps the market clock from outside. One JSON object a line, one line back.

| request | does |
|---|---|
| ``{"op": "now"}`` | tells the market clock |
| ``{"op": "set", "at": "2015-12-24T14:31:00Z"}`` | sets it; the speed stays |
| ``{"op": "speed", "speed": 60}`` | goes on from now at another speed; 0 stops it |
| ``{"op": "stats"}`` | tells what the gateway has served, and within which limits |
| ``{"op": "fault", "fault": {"fault": "silent", "symbols": ["AAPL"]}}`` | adds a fault, and tells its number |
| ``{"op": "faults"}`` | tells the faults, whether they are in force and how often each has struck |
| ``{"op": "clear"}`` | ends and forgets all faults |

Each is answered with ``{"ok": true, "now": "2015-12-24T14:31:00.000000Z", "speed": 0.0}``, or with
``{"ok": false, "error": "..."}`` when nothing was done.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import cast

from tws_simulator.connections.limits import MOST_CLIENTS
from tws_simulator.connections.outages import apply_faults, end
from tws_simulator.connections.state import GatewayState
from tws_simulator.errors import GatewayError
from tws_simulator.faults import parse_fault
from tws_simulator.faults.engine import LiveFault

_LONGEST_LINE = 1 << 16
_YEARS = range(1900, 3000)


class ControlConnection(asyncio.Protocol):
    """One peer of the control port."""

    def __init__(self, state: GatewayState) -> None:
        self._state = state
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._state.control_connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer is gone."""
        self._transport = None
        self._state.control_connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Answer every complete line."""
        self._buffer += data
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest)
        if self._transport is not None:
            for line in lines:
                self._transport.write(json.dumps(reply(self._state, line)).encode() + b"\n")
        if len(rest) > _LONGEST_LINE:
            self.close()

    def pause_writing(self) -> None:
        """The peer does not read its answers: it is asked nothing more until it does."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


def reply(state: GatewayState, line: bytes) -> dict[str, object]:
    """Do what one line asks and answer it."""
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise GatewayError('a request is one JSON object, as in {"op": "now"}')
        counts = _perform(state, request)
    except GatewayError as reason:
        return {"ok": False, "error": str(reason)}
    except (ValueError, RecursionError):
        return {"ok": False, "error": 'not JSON; a request is one line, as in {"op": "now"}'}
    clock = state.market.clock
    now = clock.now().replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return {"ok": True, "now": now, "speed": clock.speed, **counts}


def _perform(state: GatewayState, request: Mapping[str, object]) -> dict[str, object]:
    operation = request.get("op")
    clock = state.market.clock
    if operation == "set":
        instant = _instant(request.get("at"))
        state.market.world.check(instant)
        clock.set(instant)
    elif operation == "speed":
        speed = request.get("speed")
        if isinstance(speed, bool) or not isinstance(speed, int | float):
            raise GatewayError('speed: give a number of market seconds per second, as in {"op": "speed", "speed": 60}')
        clock.set_speed(speed)
    elif operation == "fault":
        fault = state.faults.add(parse_fault(request.get("fault")))
        apply_faults(state, clock.now())
        state.changed.set()
        return {"number": fault.number}
    elif operation == "clear":
        for ended in state.faults.clear():
            end(state, ended.spec)
        state.changed.set()
    elif operation == "faults":
        return {"faults": [describe(fault) for fault in state.faults.live]}
    elif operation == "stats":
        return asdict(state.stats) | {
            "clients": len(state.clients),
            "lines_in_use": state.lines.in_use,
            "most_lines_in_use": state.lines.most_in_use,
            "cpu_seconds": round(time.process_time(), 6),
            "limits": _limits(state),
        }
    elif operation != "now":
        raise GatewayError(f"op {operation!r} is none of now, set, speed, stats, fault, faults, clear")
    return {}


def _limits(state: GatewayState) -> dict[str, object]:
    """What is enforced, `rate_per` connection or session."""
    rules = state.options.rules
    return {
        "lines": state.lines.limit,
        "messages_per_second": state.options.message_rate,
        "rate_per": rules.rate_per,
        "cancels_count": rules.cancels_count,
        "clients": MOST_CLIENTS,
    }


def describe(fault: LiveFault) -> dict[str, object]:
    """One fault: its number and specification, whether it is in force, how many requests it has struck."""
    spec = fault.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return spec | {"number": fault.number, "in_force": fault.in_force, "strikes": fault.strikes}


def _instant(value: object) -> datetime:
    try:
        instant = datetime.fromisoformat(str(value))
    except ValueError:
        raise GatewayError(f"at: {value!r} is no instant; write it as 2015-12-24T14:31:00Z") from None
    if instant.tzinfo is None:
        raise GatewayError(f"at: {value!r} has no time zone; write it as 2015-12-24T14:31:00Z")
    if instant.year not in _YEARS:
        raise GatewayError(f"at: {value!r} is not in the years {_YEARS[0]} to {_YEARS[-1]}")
    return instant
