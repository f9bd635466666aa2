"""The control API of the import bucket: fault rules, gates, the request log, preloading.

It is served by the bucket's own port below `/_control/`, which no S3 bucket can be called. Every request has
`Authorization: Bearer SECRET`. The secret is what the process found in `REATTACH_BUCKET_SECRET` when it
started; without one nobody is served. Who has another secret, or none, gets 403.

| method and path | body | answer |
|---|---|---|
| GET `/_control/health` | | Health |
| POST `/_control/preload` | Preload | PreloadResult |
| POST `/_control/reset` | ResetRequest | Health |
| GET `/_control/objects?bucket=&prefix=` | | list[HeldObject] |
| GET `/_control/object?bucket=&key=` | | its bytes |
| GET `/_control/requests?since=&limit=&bucket=&prefix=` | | LogPage |
| POST `/_control/rules` | Rule | RuleState |
| GET `/_control/rules` | | list[RuleState] |
| GET `/_control/rules/{id}?held=&fired=&timeout=` | | RuleState, when it holds and fired so often |
| DELETE `/_control/rules/{id}` | | RuleState |
| POST `/_control/rules/{id}/verdict` | Verdict | RuleState |
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import msgspec

CONTROL_PREFIX = "/_control/"
SECRET_VARIABLE = "REATTACH_BUCKET_SECRET"

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1, lt=1 << 53)]
ErrorStatus = Annotated[int, msgspec.Meta(ge=400, le=599)]
HeaderText = Annotated[str, msgspec.Meta(pattern=r"^[!#-~]*$")]
"""Printable, without spaces and quotes: it goes into a header as it is."""


class Operation(StrEnum):
    """S3 operations by their API names. OTHER is every operation that only moto's backend knows."""

    GET_OBJECT = "GetObject"
    HEAD_OBJECT = "HeadObject"
    PUT_OBJECT = "PutObject"
    COPY_OBJECT = "CopyObject"
    DELETE_OBJECT = "DeleteObject"
    DELETE_OBJECTS = "DeleteObjects"
    LIST_OBJECTS = "ListObjects"
    LIST_OBJECTS_V2 = "ListObjectsV2"
    CREATE_MULTIPART_UPLOAD = "CreateMultipartUpload"
    UPLOAD_PART = "UploadPart"
    UPLOAD_PART_COPY = "UploadPartCopy"
    COMPLETE_MULTIPART_UPLOAD = "CompleteMultipartUpload"
    ABORT_MULTIPART_UPLOAD = "AbortMultipartUpload"
    LIST_PARTS = "ListParts"
    LIST_MULTIPART_UPLOADS = "ListMultipartUploads"
    LIST_BUCKETS = "ListBuckets"
    CREATE_BUCKET = "CreateBucket"
    HEAD_BUCKET = "HeadBucket"
    DELETE_BUCKET = "DeleteBucket"
    GET_BUCKET_LOCATION = "GetBucketLocation"
    OTHER = "Other"


LISTINGS = frozenset({Operation.LIST_OBJECTS, Operation.LIST_OBJECTS_V2})
WRITES = frozenset(
    {
        Operation.PUT_OBJECT,
        Operation.COPY_OBJECT,
        Operation.UPLOAD_PART,
        Operation.UPLOAD_PART_COPY,
        Operation.COMPLETE_MULTIPART_UPLOAD,
    }
)


class Match(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which requests a rule is about; everything given must hold.

    `key`, `prefix`, `suffix` and `pattern`, a regular expression for the whole of it, look at the object's
    key, and for listings at the prefix that is listed. `byte_range` is half-open and holds for a GetObject
    that asks for any byte of it. `client` is the access key id that the request was signed with, empty for an
    anonymous one. Of the requests that match, the rule fires for the `nth` (from 1) and those after it,
    `times` in all; None is without end.
    """

    bucket: str | None = None
    key: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    pattern: str | None = None
    operations: frozenset[Operation] = frozenset()
    byte_range: tuple[Count, Count] | None = None
    client: str | None = None
    nth: AtLeastOne = 1
    times: AtLeastOne | None = None

    def __post_init__(self) -> None:
        if self.byte_range is not None and self.byte_range[0] >= self.byte_range[1]:
            raise ValueError(f"byte_range {self.byte_range} has no byte in it")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as e:
                raise ValueError(f"pattern {self.pattern!r} is no regular expression: {e}") from e


class _Action(msgspec.Struct, frozen=True, kw_only=True, tag_field="do", forbid_unknown_fields=True):
    pass


class Delay(_Action, frozen=True, tag="delay"):
    """Waits `seconds` before the request is carried out. Does not keep later rules from firing."""

    seconds: Annotated[float, msgspec.Meta(ge=0, le=86400)]


class Hold(_Action, frozen=True, tag="hold"):
    """A gate: the request waits, not carried out, for a Verdict. A passed one meets later rules.

    One whose client goes away leaves the gate, unless it holds `abandoned` ones: as S3 may do with what it
    has received, those are carried out when they pass, though nobody hears of it.
    """

    abandoned: bool = False


class Status(_Action, frozen=True, tag="status"):
    """Answers with an S3 error and does not carry the request out. `code` is by default the usual one."""

    status: ErrorStatus
    code: str | None = None
    message: str | None = None
    retry_after: Count | None = None


class Reset(_Action, frozen=True, tag="reset"):
    """Resets the connection (RST): before the answer's head, or when `after` bytes of its body are out.

    Without `after` the request is not carried out. A body that is shorter than `after` goes out whole
    before the reset.
    """

    after: Count | None = None


class LoseResponse(_Action, frozen=True, tag="lose_response"):
    """Carries the request out, then resets the connection instead of answering."""


class Stall(_Action, frozen=True, tag="stall"):
    """Sends the head and `after` bytes of the body, then nothing, until the rule is removed."""

    after: Count = 0


class Truncate(_Action, frozen=True, tag="truncate"):
    """Sends only `after` bytes of the body and closes the connection in good order.

    With `honest`, Content-Length says `after` and the connection stays open.
    """

    after: Count
    honest: bool = False


class IgnoreRange(_Action, frozen=True, tag="ignore_range"):
    """Answers a ranged GetObject with 200 and the whole object."""


class ChangeEtag(_Action, frozen=True, tag="change_etag"):
    """Answers with another ETag; the bytes are right."""

    etag: HeaderText = "0badc0de0badc0de0badc0de0badc0de"


class ChangeContent(_Action, frozen=True, tag="change_content"):
    """Inverts the byte at `offset` of the object, by default the first that is sent; lengths stay right."""

    offset: Count | None = None
    etag: HeaderText | None = None


class StaleListing(_Action, frozen=True, tag="stale_listing"):
    """Listings show the bucket as it was when the rule was set, without keys that begin with `hide`."""

    hide: str | None = None


Action = (
    Delay
    | Hold
    | Status
    | Reset
    | LoseResponse
    | Stall
    | Truncate
    | IgnoreRange
    | ChangeEtag
    | ChangeContent
    | StaleListing
)


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to which requests. Rules are asked in the order in which they were set.

    Delays and gates add up; of the other actions the first rule that fires decides.
    """

    match: Match
    action: Action


class RuleState(msgspec.Struct, frozen=True, kw_only=True):
    """A rule and what it did: requests that matched, that it fired for, and that it holds now (by `seq`)."""

    id: int
    rule: Rule
    matched: int = 0
    fired: int = 0
    held: list[int] = []


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of held requests: the oldest `count`, or all, and with `open` all that come later too.

    `answer` answers without carrying them out; `drop` resets their connections.
    """

    count: Count | None = None
    answer: Status | None = None
    drop: bool = False
    open: bool = False


class LoggedRequest(msgspec.Struct, kw_only=True, gc=False):
    """A request, in the order of arrival: `seq` counts from 1 and has no gaps.

    `time` is Unix time and `started`/`ended` are the server's monotonic clock, all in seconds; `ended` is
    None while the request is under way. `key` is the prefix for listings. `byte_range` is half-open, what
    the request asked for of the object, cut to its size; None if it asked for all. `bytes_in` and
    `bytes_out` count body bytes that arrived and that were handed to the network. `status` is 0 if no
    answer was begun. `rules` names those that touched it.
    """

    seq: int
    time: float
    started: float
    ended: float | None = None
    client: str = ""
    operation: Operation = Operation.OTHER
    method: str = ""
    bucket: str = ""
    key: str = ""
    byte_range: tuple[int, int] | None = None
    part_number: int | None = None
    status: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    whole: bool = False
    """The answer went out to its last byte."""
    rules: list[int] = []


class LogPage(msgspec.Struct, frozen=True):
    """A stretch of the log, up to sequence number `following`; the log goes on up to `end`, both exclusive.

    Nothing before `next` can change any more: a later look can begin there.
    """

    entries: list[LoggedRequest]
    next: int
    following: int
    end: int


class Preload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes every file below `directory` an object `prefix` + its relative path, by reference.

    Symbolic links are followed; one to nothing, or into a directory that holds it, is 400. The bucket is
    created if it is absent. A file must not change as long as the object lives; a GET of one that did fails
    with InternalError. Its ETag is a stable surrogate of the form `<32 hex digits>-1`, made of path, size and
    modification time, as reading every file would cost.
    """

    directory: str
    bucket: str
    prefix: str = ""


class PreloadResult(msgspec.Struct, frozen=True):
    """left_out: paths, relative to the directory, of what is no file: sockets, FIFOs, devices. Sorted."""

    objects: int
    bytes: int
    left_out: list[str] = []


class HeldObject(msgspec.Struct, frozen=True):
    """An object as the bucket holds it now, whatever rules are set.

    file: where its bytes lie, if they are those of a preloaded file that has not been changed since.
    """

    key: str
    size: int
    file: str | None = None


class ResetRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to forget: rules (releasing what they hold), the request log, the objects."""

    rules: bool = True
    log: bool = True
    objects: bool = False


class Health(msgspec.Struct, frozen=True):
    pid: int
    requests: int
    buckets: int
    objects: int
