"""The socket to TWS or IB Gateway: connecting with a free client id, and noticing that nobody is there any more."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from ingest.broker.codes import CLIENT_ID_IN_USE, is_advisory
from ingest.broker.library import IB, Contract, new_client
from ingest.errors import BrokerUnreachable
from ingest.settings import IbSettings
from lake.rows import bounded_text

log = structlog.get_logger(__name__)

IN_USE = "is in use"
FIRST_RECONNECT_S, LONGEST_RECONNECT_S = 0.25, 10.0
OnError = Callable[[int, int, str, Contract | None], None]


class _ClientIdTaken(Exception):
    """The gateway does not let this client id in; the text says how."""


class _Refused(Exception):
    """The gateway ended the connection, and no other client id would help; the text says why."""


async def open_link(settings: IbSettings, on_error: OnError, first_id: int | None = None) -> tuple[IB, int]:
    """A connected client and its id: `first_id`, else the next of the pool that is free.

    An id is not free when IB says so (error 326), and when the gateway leaves it without an answer or closes the
    connection: a dead connection may still hold it. `on_error` hears every message of the broker from the first on.
    Raises BrokerUnreachable with the reason and the next step.
    """
    where = f"{settings.host}:{settings.port}"
    ids = list(range(settings.client_id, settings.client_id + settings.client_id_pool + 1))
    if first_id in ids:
        start = ids.index(first_id)
        ids = ids[start:] + ids[:start]
    stuck: dict[int, str] = {}
    for client_id in ids:
        try:
            return await _shake_hands(settings, client_id, on_error), client_id
        except _ClientIdTaken as reason:
            if str(reason) == IN_USE:
                log.info("client_id_in_use", gateway=where, client_id=client_id)
            else:
                stuck[client_id] = str(reason)
                log.warning("client_id_stuck", gateway=where, client_id=client_id, reason=str(reason))
        except _Refused as reason:
            raise BrokerUnreachable(f"the gateway at {where} {reason}: look at its window or its log") from None
        except (OSError, TimeoutError) as error:
            how = "did not answer in time" if isinstance(error, TimeoutError) else "refused the connection"
            raise BrokerUnreachable(
                f"the gateway at {where} {how}: start TWS, IB Gateway or `chainlake gateway`, or set --host and --port"
            ) from None
    raise BrokerUnreachable(_no_id_left(where, ids, stuck))


def _no_id_left(where: str, ids: list[int], stuck: dict[int, str]) -> str:
    if not stuck:
        taken = f"client id {ids[0]} is" if len(ids) == 1 else f"client ids {min(ids)} to {max(ids)} are"
        return f"{taken} in use at {where}: set another --client-id"
    tried = [f"client id {client_id} {stuck.get(client_id, IN_USE)}" for client_id in sorted(ids)]
    return f"no client id of the pool is free at {where}: {', '.join(tried)}: restart it or set another --client-id"


async def _shake_hands(settings: IbSettings, client_id: int, on_error: OnError) -> IB:
    """Connect as far as IB needs it: its version, the managed accounts and the next valid id, and no more.

    The library's own `connectAsync` goes on to download positions, account values and executions, which nobody here
    uses, and fails where one of them does not end.
    """
    ib = new_client()
    greeted = closed = False
    said: str | None = None
    refused = asyncio.Event()

    def heard(request_id: int, code: int, message: str, contract: Contract | None) -> None:
        nonlocal said
        # The library would wait for its time-out: it learns of this error only here.
        if code == CLIENT_ID_IN_USE:
            said = IN_USE
            refused.set()
        elif not is_advisory(code):
            said = said or f"ended the connection with error {code} ({bounded_text(message)})"
        on_error(request_id, code, message, contract)

    def hung_up(_reason: str) -> None:
        nonlocal closed, greeted
        # It is told before the client forgets how far it had come.
        greeted, closed = greeted or ib.client.isConnected(), True
        refused.set()

    ib.errorEvent += heard
    ib.client.apiError += hung_up
    ib.wrapper.clientId = client_id
    connecting = asyncio.ensure_future(ib.client.connectAsync(settings.host, settings.port, client_id, None))
    refusal = asyncio.ensure_future(refused.wait())
    try:
        await asyncio.wait(
            (connecting, refusal), timeout=settings.connect_timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if connecting.done():
            # Raises what kept it from connecting.
            await connecting
            return ib
        raise _failure(said, greeted=greeted or ib.client.isConnected(), closed=closed)
    except BaseException:
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        # A connection that came about all the same would hold the client id.
        ib.disconnect()
        raise
    finally:
        refusal.cancel()
        ib.client.apiError -= hung_up


def _failure(said: str | None, *, greeted: bool, closed: bool) -> Exception:
    """What a handshake that did not end in time, or was ended, comes to."""
    if said == IN_USE:
        return _ClientIdTaken(said)
    if said is not None and closed:
        return _Refused(said)
    if greeted:
        return _ClientIdTaken("was turned away without a word" if closed else "was left without an answer")
    return _Refused("closed the connection before it said anything") if closed else TimeoutError()


async def open_persistently(open_once: Callable[[], Awaitable[None]], where: str, seconds: float) -> None:
    """Have `open_once` done, trying for so many seconds. Raises BrokerUnreachable with its last reason."""
    reason = ""
    try:
        async with asyncio.timeout(seconds):
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(BrokerUnreachable),
                wait=wait_exponential_jitter(
                    max=LONGEST_RECONNECT_S, jitter=FIRST_RECONNECT_S, multiplier=FIRST_RECONNECT_S
                ),
                stop=stop_after_delay(seconds),
                reraise=True,
            ):
                with attempt:
                    try:
                        await open_once()
                    except BrokerUnreachable as failure:
                        reason = f": {failure}"
                        raise
    except TimeoutError:
        raise BrokerUnreachable(f"the gateway at {where} was not back within {seconds:.0f} s{reason}") from None


async def until_silent(ib: IB, heartbeat_s: float, timeout_s: float, count: Callable[[], None]) -> None:
    """Return when the peer is not there any more: nothing came for `heartbeat_s`, and no answer in `timeout_s`.

    Messages count, not bytes: a frame that never ends is silence too. `count` is called for each question asked. Raises
    ConnectionError when the socket is closed.
    """
    while True:
        received = ib.client.connectionStats().numMsgRecv
        await asyncio.sleep(heartbeat_s)
        if ib.client.connectionStats().numMsgRecv == received:
            count()
            try:
                async with asyncio.timeout(timeout_s):
                    await ib.reqCurrentTimeAsync()
            except TimeoutError:
                return


def abort(ib: IB) -> None:
    """Close the socket at once, without waiting for a peer that does not read; the library then tells of the loss."""
    if (transport := ib.client.conn.transport) is not None:
        transport.abort()
