"""A client by hand: frames on a socket, none of a client library's manners."""

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Callable
from typing import Self

LENGTH = struct.Struct(">I")
START_API, CURRENT_TIME, MARKET_DATA, CANCEL_MARKET_DATA = 71, 49, 1, 2
CURRENT_TIME_ANSWER, ERROR, SNAPSHOT_END, TICK_PRICE, TICK_SIZE = "49", "4", "57", "1", "2"


def frame(*fields: object) -> bytes:
    payload = "".join(f"{field}\0" for field in fields).encode()
    return LENGTH.pack(len(payload)) + payload


def greeting(low: int = 157, high: int = 176, options: str = "") -> bytes:
    text = f"v{low}..{high}{' ' + options if options else ''}".encode()
    return b"API\0" + LENGTH.pack(len(text)) + text


def market_data(req_id: int, conid: int, generics: str = "", snapshot: bool = False) -> bytes:
    contract = (conid, "", "", "", 0, "", "", "SMART", "", "", "", "")
    return frame(MARKET_DATA, 11, req_id, *contract, 0, generics, int(snapshot), 0, "")


class RawClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @classmethod
    @contextlib.asynccontextmanager
    async def ready(cls, port: int, client_id: int = 1, options: str = "") -> AsyncIterator[Self]:
        """Connected, told everything that is told on connecting."""
        client = await cls.open(port)
        try:
            client.writer.write(greeting(options=options) + frame(START_API, 2, client_id, ""))
            await client.until(lambda fields: fields[:1] == [ERROR] and fields[3] == "2199")
            yield client
        finally:
            client.close()

    def send(self, *fields: object) -> None:
        self.writer.write(frame(*fields))

    async def receive(self, seconds: float = 5.0) -> list[str] | None:
        """The next message's fields; None when the gateway has closed."""
        try:
            async with asyncio.timeout(seconds):
                (length,) = LENGTH.unpack(await self.reader.readexactly(4))
                payload = await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return payload.decode().split("\0")[:-1]

    async def until(self, wanted: Callable[[list[str]], bool], seconds: float = 5.0) -> list[list[str]]:
        """Everything up to the first message that is wanted; fails when the connection ends before."""
        seen: list[list[str]] = []
        deadline = time.monotonic() + seconds
        while True:
            fields = await self.receive(max(deadline - time.monotonic(), 0.01))
            assert fields is not None, f"closed after {seen[-5:]}"
            seen.append(fields)
            if wanted(fields):
                return seen

    async def everything(self, seconds: float) -> list[list[str]]:
        """What comes until the gateway closes, or nothing more comes for so many seconds."""
        seen: list[list[str]] = []
        with contextlib.suppress(TimeoutError):
            while (fields := await self.receive(seconds)) is not None:
                seen.append(fields)
        return seen

    async def closed(self, seconds: float = 5.0) -> bool:
        """Whether the gateway closes within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(1 << 16):
                    pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self.writer.close()


def errors(messages: list[list[str]]) -> list[int]:
    """Codes of the errors among messages, without information."""
    return [int(fields[3]) for fields in messages if fields[0] == ERROR and int(fields[3]) < 2000]
