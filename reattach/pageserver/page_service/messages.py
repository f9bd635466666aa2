"""Messages of PostgreSQL's wire protocol, version 3. Pure: bytes in, values out, and back."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

PROTOCOL_MAJOR = 3

SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102

MAX_STARTUP_BYTES = 10_000
MAX_MESSAGE_BYTES = 1 << 20
COPY_DATA_BYTES = 128 * 1024

REFUSE_ENCRYPTION = b"N"

_INT32 = struct.Struct(">i")
_MESSAGE = struct.Struct(">ci")


class ProtocolViolation(Exception):
    """The client sent what the protocol does not allow; the connection cannot go on."""


class Startup(NamedTuple):
    """A client's first message. `parameters` such as `user`; empty for requests that are no startup."""

    code: int
    parameters: dict[str, str]

    @property
    def minor(self) -> int:
        return self.code & 0xFFFF

    @property
    def protocol_options(self) -> list[str]:
        """Options of newer protocols, none of which is known here."""
        return [name for name in self.parameters if name.startswith("_pq_.")]


def startup_length(raw: bytes) -> int:
    """Bytes that follow the length word of a startup packet. Raises ProtocolViolation."""
    length: int = _INT32.unpack(raw)[0]
    if not 8 <= length <= MAX_STARTUP_BYTES:
        raise ProtocolViolation(f"invalid length of startup packet: {length}")
    return length - _INT32.size


def parse_startup(body: bytes) -> Startup:
    """Reads a startup packet without its length word. Raises ProtocolViolation."""
    code: int = _INT32.unpack_from(body)[0]
    if code in (SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST):
        return Startup(code, {})
    if code >> 16 != PROTOCOL_MAJOR:
        raise ProtocolViolation(f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}")
    texts = body[_INT32.size :].split(b"\0")
    if len(texts) < 2 or texts[-2:] != [b"", b""] or len(texts) % 2:
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    names = [text.decode(errors="replace") for text in texts[:-2]]
    return Startup(code, dict(zip(names[::2], names[1::2], strict=True)))


def parse_header(raw: bytes) -> tuple[bytes, int]:
    """The type of a message and the bytes that follow its 5 bytes of header. Raises ProtocolViolation."""
    kind, length = _MESSAGE.unpack(raw)
    if not _INT32.size <= length <= MAX_MESSAGE_BYTES:
        raise ProtocolViolation(f"invalid message length: {length}")
    return kind, length - _INT32.size


def parse_text(body: bytes) -> str:
    """The zero-terminated text that a query or password message consists of. Raises ProtocolViolation."""
    text, terminator, rest = body.partition(b"\0")
    if not terminator or rest:
        raise ProtocolViolation("a text is not zero-terminated")
    return text.decode(errors="replace")


def message(kind: bytes, body: bytes = b"") -> bytes:
    """A message of the server."""
    return _MESSAGE.pack(kind, len(body) + _INT32.size) + body


def copy_data(data: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """COPY data, in messages that a client's buffers hold without growing. The data is not copied."""
    view = memoryview(data)
    for start in range(0, len(view), COPY_DATA_BYTES):
        part = view[start : start + COPY_DATA_BYTES]
        yield _MESSAGE.pack(b"d", len(part) + _INT32.size)
        yield part


def negotiate_version(options: list[str]) -> bytes:
    """Tells a client of a newer minor version, or with options unknown here, to do without."""
    names = b"".join(option.encode() + b"\0" for option in options)
    return message(b"v", struct.pack(">ii", 0, len(options)) + names)


def parameter_status(name: str, value: str) -> bytes:
    return message(b"S", name.encode() + b"\0" + value.encode() + b"\0")


def command_complete(tag: str) -> bytes:
    return message(b"C", tag.encode() + b"\0")


def error_response(text: str, code: str, *, severity: str = "ERROR") -> bytes:
    """An error with its five-character SQLSTATE."""
    fields = (("S", severity), ("V", severity), ("C", code), ("M", text.replace("\0", "")))
    return message(b"E", b"".join(kind.encode() + value.encode() + b"\0" for kind, value in fields) + b"\0")


AUTHENTICATION_OK = message(b"R", _INT32.pack(0))
AUTHENTICATION_PASSWORD = message(b"R", _INT32.pack(3))
BACKEND_KEY_DATA = message(b"K", _INT32.pack(0) * 2)
READY_FOR_QUERY = message(b"Z", b"I")
EMPTY_QUERY_RESPONSE = message(b"I")
COPY_OUT_RESPONSE = message(b"H", struct.pack(">bh", 1, 0))
COPY_DONE = message(b"c")
