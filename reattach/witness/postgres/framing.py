"""Messages of PostgreSQL's protocol 3.0 and 3.2: a type, a length that counts itself, a body."""

from __future__ import annotations

import struct
from collections.abc import Mapping

LENGTH = struct.Struct("!xI")
"""At a message's start."""

_STARTUP = struct.Struct("!II")
SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
SHORTEST_STARTUP, LONGEST_STARTUP = 8, 10_000

FLUSH = b"H\0\0\0\x04"
ROLLBACK = b"Q\0\0\0\x0dROLLBACK\0"


class NotPostgres(Exception):
    """What was sent is not this protocol. The text says why."""


def startup_packet(data: bytes | bytearray) -> tuple[int, int] | None:
    """(length, code) of the packet at the start, None if not all of it is there. Raises NotPostgres."""
    if len(data) < _STARTUP.size:
        return None
    length, code = _STARTUP.unpack_from(data)
    if not SHORTEST_STARTUP <= length <= LONGEST_STARTUP:
        raise NotPostgres(f"a startup packet of {length} bytes")
    return None if len(data) < length else (length, code)


def message_length(data: bytes | bytearray, at: int) -> int | None:
    """Bytes of the message at `at`, type included; None if its header is not whole. Raises NotPostgres."""
    if len(data) - at < 5:
        return None
    (length,) = LENGTH.unpack_from(data, at)
    if not 4 <= length < 1 << 30:
        raise NotPostgres(f"a message of type {bytes(data[at : at + 1])!r} and {length} bytes")
    return int(length) + 1


def text_at(body: bytes, at: int) -> tuple[str, int]:
    """The string that ends with a zero byte, and where the next field begins. Raises NotPostgres."""
    end = body.find(b"\0", at)
    if end < 0:
        raise NotPostgres("a string without an end")
    return body[at:end].decode("utf-8", "replace"), end + 1


_SQLSTATES: Mapping[int, str] = {
    400: "22000",
    403: "42501",
    404: "42704",
    408: "57014",
    409: "40001",
    429: "53300",
    503: "57P03",
    504: "57014",
}


def sqlstate_of(status: int) -> str:
    """The error that stands for an HTTP status: 409 is a serialization failure, 503 "cannot connect now"."""
    return _SQLSTATES.get(status, "XX000")


def error_response(status: int, message: str) -> bytes:
    """An ErrorResponse that ends the transaction, not the connection."""
    fields = ("SERROR", "VERROR", f"C{sqlstate_of(status)}", f"M{message}", "Rreattach-witness")
    body = b"".join(field.encode() + b"\0" for field in fields) + b"\0"
    return b"E" + struct.pack("!I", len(body) + 4) + body


def sqlstate_in(body: bytes) -> str:
    """The code of an ErrorResponse's body."""
    at = 0
    while at < len(body) and body[at : at + 1] != b"\0":
        field, at = text_at(body, at)
        if field.startswith("C"):
            return field[1:]
    return ""
