"""Answers, S3 errors and the XML of both."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal
from xml.sax.saxutils import escape

from reattach.witness.s3.blob import NOTHING, MemoryBlob, Pieces

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {503: "Slow Down"}


@dataclass(slots=True)
class Response:
    """An answer. `head` holds header lines that are already bytes. `length` is what Content-Length says,
    None for no such header; HEAD answers have a length and no body."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: Pieces = NOTHING
    head: bytes = b""
    length: int | None = 0
    # What a fault makes of sending it: cut after this many body bytes, and then what.
    cut_at: int | None = None
    ending: Literal["", "reset", "stall", "close"] = ""
    stalled_by: int = 0


class S3Error(Exception):
    """Becomes an error answer."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Iterable[tuple[str, str]] = (),
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.headers = headers


def render_head(response: Response, request_id: int, keep_alive: bool) -> bytes:
    """The status line and every header, to the empty line."""
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Unknown')}\r\n", _standing_lines()]
    lines += [f"{name}: {value}\r\n" for name, value in response.headers]
    lines.append(f"x-amz-request-id: {request_id:016X}\r\n")
    if response.length is not None:
        lines.append(f"Content-Length: {response.length}\r\n")
    if not keep_alive:
        lines.append("Connection: close\r\n")
    # latin-1 carries every byte of a header through, as it came in.
    return "".join(lines).encode("latin-1") + response.head + b"\r\n"


_standing: tuple[int, str] = (0, "")


def _standing_lines() -> str:
    global _standing  # noqa: PLW0603 - one string a second, made once
    now = int(time.time())
    if _standing[0] != now:
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now))
        _standing = (now, f"Date: {date}\r\nServer: reattach\r\n")
    return _standing[1]


def bytes_response(
    status: int, body: bytes, content_type: str, headers: Sequence[tuple[str, str]] = ()
) -> Response:
    return Response(
        status,
        (("Content-Type", content_type), *headers),
        MemoryBlob(body).open(0, len(body)),
        length=len(body),
    )


def xml_response(
    root: str, content: str, headers: Sequence[tuple[str, str]] = (), status: int = 200
) -> Response:
    """`content` is the XML inside the root element."""
    text = f'{_DECLARATION}<{root} xmlns="{NAMESPACE}">{content}</{root}>'
    return bytes_response(status, text.encode(), "application/xml", headers)


def error_response(error: S3Error, method: str, request_id: int) -> Response:
    details = "".join(element(name, value) for name, value in error.details)
    text = (
        f"{_DECLARATION}<Error>{element('Code', error.code)}{element('Message', error.message)}{details}"
        f"<RequestId>{request_id:016X}</RequestId><HostId>reattach</HostId></Error>"
    ).encode()
    response = bytes_response(error.status, text, "application/xml", error.headers)
    if method == "HEAD":
        response.body, response.length = NOTHING, 0
    return response


# Characters that XML 1.0 cannot carry; S3 clients ask for encoding-type=url where keys may have them.
_FORBIDDEN = {code: "\ufffd" for code in range(0x20) if code not in (0x09, 0x0A, 0x0D)}


def text(value: str) -> str:
    """`value` as XML text."""
    return escape(value.translate(_FORBIDDEN), {'"': "&quot;", "\r": "&#13;"})


def element(name: str, value: object) -> str:
    return f"<{name}>{text(str(value))}</{name}>"


def no_such_bucket(name: str) -> S3Error:
    return S3Error(404, "NoSuchBucket", "The specified bucket does not exist", details=[("BucketName", name)])


def no_such_key(key: str) -> S3Error:
    return S3Error(404, "NoSuchKey", "The specified key does not exist.", details=[("Key", key)])


def no_such_upload(upload_id: str) -> S3Error:
    message = (
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been "
        "aborted or completed."
    )
    return S3Error(404, "NoSuchUpload", message, details=[("UploadId", upload_id)])


def precondition_failed(condition: str) -> S3Error:
    message = "At least one of the pre-conditions you specified did not hold"
    return S3Error(412, "PreconditionFailed", message, details=[("Condition", condition)])


def invalid_argument(message: str, name: str | None = None, value: str = "") -> S3Error:
    details = [("ArgumentName", name), ("ArgumentValue", value)] if name is not None else []
    return S3Error(400, "InvalidArgument", message, details=details)


def malformed_xml() -> S3Error:
    message = "The XML you provided was not well-formed or did not validate against our published schema"
    return S3Error(400, "MalformedXML", message)


def internal_error(message: str) -> S3Error:
    return S3Error(500, "InternalError", message)
