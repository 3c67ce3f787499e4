"""What a fault of the connection does to the clients when it begins and when it is over."""

from datetime import datetime

import structlog

from tws_simulator.connections.state import Client, GatewayState
from tws_simulator.faults import scenario as s
from tws_simulator.faults.engine import Faults
from tws_simulator.market import FROZEN, LIVE
from tws_simulator.protocol import codes
from tws_simulator.protocol.messages import message, news_bulletin, news_headline

# No client counts this far.
_NOBODYS_REQUEST = (1 << 31) - 1
_log = structlog.get_logger(__name__)
_FARMS: tuple[s.Farm, ...] = ("usfarm", "usopt", "ushmds", "secdefnj")


def apply_faults(state: GatewayState, now: datetime) -> bool:
    """Begin the faults whose time has come by the market time `now`, end those that are over; whether any did."""
    changed = state.faults.look(now, state.stats.subscriptions)
    for fault in changed:
        _log.info("fault begins" if fault.in_force else "fault ends", number=fault.number, fault=fault.spec.fault)
        (begin if fault.in_force else end)(state, fault.spec)
    return bool(changed)


def begin(state: GatewayState, fault: s.Fault) -> None:
    """The moment a fault comes into force."""
    match fault:
        case s.ConnectionLost():
            _inform(state, codes.CONNECTION_LOST)
        case s.NightlyReset():
            _inform(state, codes.CONNECTION_LOST)
            for farm in _FARMS:
                _inform(state, codes.FARM_BROKEN[farm], farm)
        case s.FarmDown():
            _inform(state, codes.FARM_BROKEN[fault.farm], fault.farm)
        case s.CompetingSession():
            for client in list(state.connections):
                for subscription in client.subscriptions.values():
                    if subscription.requested_type in (LIVE, FROZEN):
                        client.error(
                            subscription.req_id, codes.COMPETING_SESSION, codes.text_of(codes.COMPETING_SESSION)
                        )
        case s.SocketDrop():
            state.listener.pause()
            for client in list(state.connections):
                client.drop(reset=fault.reset)
            # without a duration it is over at once: clients may come back
            if fault.for_ is None and fault.until is None:
                state.listener.resume()
        case s.HalfOpen():
            for client in list(state.connections):
                client.freeze()
        case s.GarbageFrame():
            for client in list(state.connections):
                client.send(garbage(fault.kind))
        case s.Notice():
            _inform(state, fault.code, text=fault.message)
        case s.News():
            for client in list(state.connections):
                client.send(news_bulletin("Trading in SIM has been halted"))
                client.send(news_headline(_NOBODYS_REQUEST, state.market.clock.now(), "Simulated news"))
        case _:
            pass


def end(state: GatewayState, fault: s.Fault) -> None:
    """The moment a fault is over."""
    match fault:
        case s.ConnectionLost() | s.NightlyReset():
            if fault.data == "lost":
                for client in list(state.connections):
                    for subscription in list(client.subscriptions.values()):
                        client.end_subscription(subscription)
            _inform(state, codes.RESTORED_DATA_LOST if fault.data == "lost" else codes.RESTORED_DATA_KEPT)
            if isinstance(fault, s.NightlyReset):
                for farm in _FARMS:
                    _inform(state, codes.FARM_OK[farm], farm)
        case s.FarmDown():
            _inform(state, codes.FARM_OK[fault.farm], fault.farm)
        case s.SocketDrop():
            state.listener.resume()
        case s.HalfOpen():
            for client in list(state.connections):
                if client.frozen:
                    client.drop(reset=True)
        case _:
            pass


def sockets_are_dead(faults: Faults) -> bool:
    """Whether a new connection finds nobody behind it."""
    return faults.any_active(s.HalfOpen)


def send_farm_status(client: Client) -> None:
    """Send a client that has just connected the state of the server farms, as TWS does."""
    faults = client.state.faults
    if faults.any_active(s.ConnectionLost, s.NightlyReset):
        client.inform(codes.SERVER_BROKEN, codes.text_of(codes.SERVER_BROKEN))
    for farm in _FARMS:
        code = (codes.FARM_BROKEN if faults.farm_is_down(farm) else codes.FARM_OK)[farm]
        client.inform(code, f"{codes.text_of(code)}:{farm}")


def garbage(kind: str) -> bytes:
    """A frame that breaks the protocol."""
    match kind:
        case "unknown_message":
            return message(9999, 1, "no such message")
        case "short":
            return message(1, 6)
        case "binary":
            return b"\x00\x00\x00\x08\xff\xfe\x00\x81\xf0\x28\x8c\x00"
        case _:
            return b"\x00\x0f\xff\xff1\x00"


def _inform(state: GatewayState, code: int, farm: str = "", text: str = "") -> None:
    text = text or codes.text_of(code)
    for client in list(state.connections):
        client.inform(code, f"{text}:{farm}" if farm else text)
