"""An S3 request as an effect: what of it a history keeps, and its way through a world."""

from __future__ import annotations

import asyncio
import re
from hashlib import blake2b

import msgspec

from reattach.api.bucket import LISTINGS, Operation
from reattach.api.history import Attributes
from reattach.witness.s3 import xml_bodies
from reattach.witness.s3.connection import ClientGone, Connection
from reattach.witness.s3.request import Request
from reattach.witness.s3.responses import Response
from reattach.witness.world import GO_ON, Decision, Effect, Link, Verdict, World
from reattach.witness.worlds import S3_PEER

_MAX_BODY = 1 << 20
_OK = 200
_ENTRY = re.compile(rb"<(?:Key|ETag|Size)>.*?</", re.DOTALL)


class Witnessed:
    """One request. effect: None for a mere read, which is one line when it has been answered.

    decision: what was decided before, or after once `response` is there.
    """

    def __init__(self, world: World, link: Link, request: Request) -> None:
        self._world = world
        self._link = link
        self._request = request
        self.response: Response | None = None
        attributes = _attributes(request)
        self._named = world.name(link, S3_PEER, request.called, _target(request, attributes))
        self._attributes = attributes
        self.effect: Effect | None = None
        self.decision: Decision = GO_ON
        if not world.is_mere_read(self._named):
            self.effect = world.arrive(link, self._named, attributes)
            self.decision = world.before(self.effect)

    def performed(self, response: Response) -> None:
        """The bucket has done it, or refused it."""
        if self.effect is not None and not self.effect.is_performed:
            self._world.performed(self.effect, response.status, _answer(self._request, response))

    def respond(self, response: Response) -> Decision:
        """Whether this answer may go out."""
        self.response = response
        if self.effect is None:
            return GO_ON
        self.decision = self._world.after(self.effect) if self.effect.is_performed else GO_ON
        return self.decision

    def drop(self, why: str) -> None:
        if self.effect is not None:
            self._world.dropped(self.effect, why)

    def end(self, whole: bool) -> None:
        """The answer is with the network, or the connection is gone. Nothing to do before there is an
        answer.
        """
        response, request = self.response, self._request
        if response is None:
            return
        if self.effect is None:
            answer: Attributes = _seen(request, response) if whole else {"cut_at": request.logged.bytes_out}
            self._world.read(
                self._link, self._named, self._attributes | _range(request), response.status, answer
            )
        elif whole:
            self._world.answered(self.effect, response.status)
        else:
            self._world.dropped(self.effect, "the sender is gone")


async def decided(decision: Decision, effect: Effect, connection: Connection) -> Verdict:
    """A decision, once it is there. Raises ClientGone if the client goes, unless it is to be done without."""
    if isinstance(decision, Verdict):
        return decision
    try:
        verdict: Verdict = await connection.wait(asyncio.shield(decision))
    except ClientGone:
        if not effect.abandoned:
            raise
        return await decision
    return verdict


def _target(request: Request, attributes: Attributes) -> str:
    keys = attributes.get("keys")
    if isinstance(keys, list) and keys:
        # What lies between the first and the last of all keys begins like both.
        first, last = min(keys), max(keys)
        length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        return f"{request.bucket}/{first[:length]}"
    return f"{request.bucket}/{request.logged.key}"


def _attributes(request: Request) -> Attributes:
    found: Attributes = {
        "operation": str(request.called),
        "bucket": request.bucket,
        "key": request.logged.key,
    }
    if request.operation in (Operation.COPY_OBJECT, Operation.UPLOAD_PART_COPY):
        found["source"] = request.headers.get("x-amz-copy-source", "")
    if "uploadId" in request.query:
        found["upload"] = request.query["uploadId"]
    if request.operation in LISTINGS:
        after = (request.query.get(name, "") for name in ("continuation-token", "start-after", "marker"))
        found |= {"prefix": request.query.get("prefix", ""), "after": next(filter(None, after), "")}
    if request.body is None:
        return found
    found["size"] = request.body.size
    if 0 < request.body.size <= _MAX_BODY:
        if request.operation is Operation.DELETE_OBJECTS:
            found["keys"] = _keys(request.body.open(0, request.body.size).read())
        elif request.operation is Operation.PUT_OBJECT:
            first = request.body.open(0, 1).read()
            if first == b"{":
                found |= _json(request.body.open(0, request.body.size).read())
    return found


def _json(raw: bytes) -> Attributes:
    try:
        return {"body": msgspec.json.decode(raw)}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _keys(raw: bytes) -> list[str]:
    # What is no such document is refused when it is performed.
    try:
        root = xml_bodies.parse(raw)
    except xml_bodies.BadXml:
        return []
    return [child.text or "" for entry in root for child in entry if child.tag.rpartition("}")[2] == "Key"]


def _range(request: Request) -> Attributes:
    return {} if request.logged.byte_range is None else {"range": request.logged.byte_range}


def _answer(request: Request, response: Response) -> Attributes:
    return _range(request) | _etag(response)


def _seen(request: Request, response: Response) -> Attributes:
    """What tells two answers apart: an object's ETag; of a listing, a digest of its keys, ETags and sizes."""
    if request.operation not in LISTINGS or response.status != _OK:
        return _etag(response)
    body = b"".join(bytes(piece) for piece in response.body.pieces if isinstance(piece, memoryview | bytes))
    return {"digest": blake2b(b"".join(_ENTRY.findall(body)), digest_size=16).hexdigest()}


def _etag(response: Response) -> Attributes:
    etag = next((value for name, value in response.headers if name.lower() == "etag"), None)
    return {} if etag is None else {"etag": etag.strip('"')}
