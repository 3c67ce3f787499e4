"""The socket to TWS or IB Gateway: connecting with a free client id, and noticing that nobody is there any more."""

import asyncio
from collections.abc import Callable

import structlog

from ingest.broker.codes import CLIENT_ID_IN_USE
from ingest.broker.library import IB, Contract, new_client
from ingest.errors import BrokerUnreachable
from ingest.settings import IbSettings

log = structlog.get_logger(__name__)

OnError = Callable[[int, int, str, Contract | None], None]


class _ClientIdTaken(Exception):
    pass


async def open_link(settings: IbSettings, on_error: OnError, first_id: int | None = None) -> tuple[IB, int]:
    """A connected client and its id: `first_id`, else the next of the pool that is free.

    `on_error` hears every message of the broker from the first on. Raises BrokerUnreachable with the reason and the
    next step.
    """
    where = f"{settings.host}:{settings.port}"
    ids = list(range(settings.client_id, settings.client_id + settings.client_id_pool + 1))
    if first_id in ids:
        start = ids.index(first_id)
        ids = ids[start:] + ids[:start]
    for client_id in ids:
        try:
            return await _shake_hands(settings, client_id, on_error), client_id
        except _ClientIdTaken:
            log.info("client_id_in_use", gateway=where, client_id=client_id)
        except (OSError, TimeoutError) as error:
            reason = "did not answer in time" if isinstance(error, TimeoutError) else "refused the connection"
            raise BrokerUnreachable(
                f"the gateway at {where} {reason}: "
                "start TWS, IB Gateway or `chainlake gateway`, or set --host and --port"
            ) from None
    taken = f"client id {ids[0]} is" if len(ids) == 1 else f"client ids {min(ids)} to {max(ids)} are"
    raise BrokerUnreachable(f"{taken} in use at {where}: set another --client-id")


async def _shake_hands(settings: IbSettings, client_id: int, on_error: OnError) -> IB:
    ib = new_client()
    taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def heard(request_id: int, code: int, message: str, contract: Contract | None) -> None:
        # The library would wait for its time-out: it learns of this error only here.
        if code == CLIENT_ID_IN_USE and not taken.done():
            taken.set_result(None)
        on_error(request_id, code, message, contract)

    ib.errorEvent += heard
    # readonly: Chainlake never trades, so it does not ask for orders.
    connecting = asyncio.ensure_future(
        ib.connectAsync(settings.host, settings.port, client_id, timeout=settings.connect_timeout_s, readonly=True)
    )
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            await asyncio.wait((connecting, taken), return_when=asyncio.FIRST_COMPLETED)
        if taken.done():
            raise _ClientIdTaken
        await connecting
    except BaseException:
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        # A connection that came about all the same would hold the client id.
        ib.disconnect()
        raise
    return ib


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
