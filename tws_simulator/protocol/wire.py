"""Frames of the TWS socket protocol: a big-endian 32-bit length, then fields that each end with a NUL."""

import struct
from collections.abc import Iterator

_LENGTH = struct.Struct(">I")
HELLO = b"API\0"
# No request comes near this; a longer announced length is not this protocol (an HTTP client, for one).
LONGEST_FRAME = 1 << 20


class BadFrame(Exception):
    """The peer does not speak the protocol."""


class FrameReader:
    """Cuts a byte stream into payloads. The first four bytes of a connection are ``API\\0``."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._greeted = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Payloads completed by `data`. Raises `BadFrame`."""
        self._buffer += data
        if not self._greeted:
            if not HELLO.startswith(bytes(self._buffer[:4])):
                raise BadFrame("the connection does not begin with API\\0")
            if len(self._buffer) < 4:
                return
            del self._buffer[:4]
            self._greeted = True
        start = 0
        try:
            while len(self._buffer) - start >= 4:
                (length,) = _LENGTH.unpack_from(self._buffer, start)
                if length > LONGEST_FRAME:
                    raise BadFrame(f"a frame of {length} bytes")
                end = start + 4 + length
                if len(self._buffer) < end:
                    break
                payload = bytes(self._buffer[start + 4 : end])
                start = end
                yield payload
        finally:
            del self._buffer[:start]


def frame(text: str) -> bytes:
    """One message; `text` is its fields, each already followed by a NUL."""
    payload = text.encode()
    return _LENGTH.pack(len(payload)) + payload


def split_fields(payload: bytes) -> list[str]:
    """The fields of a client's message. Raises `BadFrame`."""
    if not payload.endswith(b"\0"):
        raise BadFrame("a message without a final NUL")
    try:
        return payload[:-1].decode().split("\0")
    except UnicodeDecodeError:
        raise BadFrame("a message that is not text") from None


def parse_greeting(payload: bytes) -> tuple[int, int, list[str]]:
    """(lowest, highest) protocol version and the options of a client's greeting ``v157..176 +PACEAPI``.

    Raises `BadFrame`.
    """
    text, *options = payload.decode("ascii", "replace").rstrip("\0").split(" ")
    low, dots, high = text.removeprefix("v").partition("..")
    try:
        return int(low), int(high if dots else low), options
    except ValueError:
        raise BadFrame(f"{text[:40]!r} names no protocol versions") from None
