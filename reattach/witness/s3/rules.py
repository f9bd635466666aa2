"""Fault rules and gates: which request a rule fires for, what it holds, and what it makes of an answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from reattach.api.bucket import (
    LISTINGS,
    ChangeContent,
    ChangeEtag,
    Delay,
    Hold,
    IgnoreRange,
    Match,
    Operation,
    Reset,
    Rule,
    RuleState,
    StaleListing,
    Stall,
    Status,
    Truncate,
    Verdict,
)
from reattach.witness.s3.blob import NOTHING
from reattach.witness.s3.conditions import UnsatisfiableRange, resolve_range
from reattach.witness.s3.request import Request
from reattach.witness.s3.responses import Response, S3Error
from reattach.witness.s3.store import Store, StoredObject

Snapshot = tuple[Sequence[str], dict[str, StoredObject]]
"""A bucket's sorted keys and its objects at one moment."""

_ETAG = re.compile(rb'ETag: "[^"]*"')

_STATUS_DEFAULTS = {
    403: ("AccessDenied", "Access Denied"),
    404: ("NoSuchKey", "The specified key does not exist."),
    500: ("InternalError", "We encountered an internal error. Please try again."),
    502: ("BadGateway", "Bad Gateway"),
    503: ("SlowDown", "Please reduce your request rate."),
}


class Stalled(Protocol):
    """A connection in the middle of an answer."""

    def resume(self) -> None: ...


class ActiveRule:
    """A rule, what it counted, and whom it holds."""

    def __init__(self, number: int, rule: Rule, snapshots: dict[str, Snapshot]) -> None:
        self.id = number
        self.rule = rule
        self.matched = 0
        self.fired = 0
        self.snapshots = snapshots
        self.removed = False
        self._opened = False
        self._held: dict[int, asyncio.Future[Status | str]] = {}
        self._stalled: list[Stalled] = []
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def state(self) -> RuleState:
        return RuleState(
            id=self.id, rule=self.rule, matched=self.matched, fired=self.fired, held=sorted(self._held)
        )

    def matches(self, request: Request, size: Callable[[], int | None]) -> bool:
        """Whether the request is one of the rule's; `size` is that of its object."""
        return matches(self.rule.match, request, size)

    def take(self) -> bool:
        """Counts a match. Returns whether the rule may fire for it."""
        self.matched += 1
        match = self.rule.match
        return (
            not self._opened
            and self.matched >= match.nth
            and (match.times is None or self.fired < match.times)
        )

    def count_firing(self) -> None:
        self.fired += 1
        self._changed()

    def hold(self, seq: int) -> asyncio.Future[Status | str]:
        """Holds request `seq`: the future is "pass", "drop" or an answer."""
        future: asyncio.Future[Status | str] = asyncio.get_running_loop().create_future()
        self._held[seq] = future
        future.add_done_callback(lambda _: self._held.pop(seq, None))
        self._changed()
        return future

    def stall(self, connection: Stalled) -> None:
        self._stalled.append(connection)

    def judge(self, verdict: Verdict) -> None:
        seqs = sorted(self._held)
        outcome: Status | str = verdict.answer or ("drop" if verdict.drop else "pass")
        for seq in seqs[: verdict.count]:
            future = self._held.pop(seq)
            if not future.done():
                future.set_result(outcome)
        if verdict.open:
            self._opened = True

    def remove(self) -> None:
        """Lets everybody go."""
        self.removed = True
        self.judge(Verdict(open=True))
        stalled, self._stalled = self._stalled, []
        for connection in stalled:
            connection.resume()
        self._changed()

    async def wait_until(self, *, held: int, fired: int, timeout: float) -> None:
        """Returns when so many requests are held and it fired so often, or the time is up, or it is gone."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while (len(self._held) < held or self.fired < fired) and not self.removed and loop.time() < deadline:
            waiter = loop.create_future()
            self._waiters.append(waiter)
            await asyncio.wait([waiter], timeout=deadline - loop.time())

    def _changed(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def matches(match: Match, request: Request, size: Callable[[], int | None]) -> bool:
    """Whether all that `match` gives holds for the request."""
    if match.operations and request.operation not in match.operations:
        return False
    if match.bucket is not None and match.bucket != request.bucket:
        return False
    key = request.logged.key
    if match.key is not None and match.key != key:
        return False
    if match.prefix is not None and not key.startswith(match.prefix):
        return False
    if match.suffix is not None and not key.endswith(match.suffix):
        return False
    if match.pattern is not None and re.fullmatch(match.pattern, key) is None:
        return False
    if match.client is not None and match.client != request.logged.client:
        return False
    return match.byte_range is None or _overlaps(match.byte_range, request, size())


def _overlaps(wanted: tuple[int, int], request: Request, size: int | None) -> bool:
    if request.operation is not Operation.GET_OBJECT or size is None:
        return False
    try:
        start, end = resolve_range(request.headers.get("range"), size) or (0, size)
    except UnsatisfiableRange:
        return False
    return start < wanted[1] and wanted[0] < end


class Rules:
    """The rules that are set now, in the order in which they were set."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rules: dict[int, ActiveRule] = {}
        self._last = 0

    def __bool__(self) -> bool:
        return bool(self._rules)

    def states(self) -> list[RuleState]:
        return [rule.state for rule in self._rules.values()]

    def add(self, rule: Rule) -> ActiveRule:
        self._last += 1
        snapshots: dict[str, Snapshot] = {}
        if isinstance(rule.action, StaleListing):
            hide = rule.action.hide
            for name, bucket in self._store.buckets.items():
                keys = [key for key in bucket.keys if hide is None or not key.startswith(hide)]
                snapshots[name] = keys, dict(bucket.objects)
        active = self._rules[self._last] = ActiveRule(self._last, rule, snapshots)
        return active

    def get(self, number: int) -> ActiveRule | None:
        return self._rules.get(number)

    def remove(self, number: int) -> ActiveRule | None:
        rule = self._rules.pop(number, None)
        if rule is not None:
            rule.remove()
        return rule

    def clear(self) -> None:
        for number in list(self._rules):
            self.remove(number)

    def fire(self, request: Request) -> list[ActiveRule]:
        """The rules that act on the request: delays and gates, and at most one other, which is the last."""

        def size() -> int | None:
            bucket = self._store.buckets.get(request.bucket)
            obj = bucket.objects.get(request.key) if bucket is not None else None
            return obj.blob.size if obj is not None else None

        fired: list[ActiveRule] = []
        decided = False
        for rule in self._rules.values():
            if not rule.matches(request, size) or not rule.take() or decided:
                continue
            rule.count_firing()
            fired.append(rule)
            decided = not isinstance(rule.rule.action, Delay | Hold)
        if fired:
            request.logged.rules = [rule.id for rule in fired]
        return fired


def status_error(action: Status) -> S3Error:
    code, message = _STATUS_DEFAULTS.get(action.status, ("InternalError", "An injected fault"))
    headers = [("Retry-After", str(action.retry_after))] if action.retry_after is not None else []
    return S3Error(action.status, action.code or code, action.message or message, headers=headers)


def prepare(rule: ActiveRule, request: Request) -> Snapshot | None:
    """Changes the request before it is carried out. Returns what a listing is to show instead."""
    if isinstance(rule.rule.action, IgnoreRange):
        request.headers.pop("range", None)
    if isinstance(rule.rule.action, StaleListing) and request.operation in LISTINGS:
        return rule.snapshots.get(request.bucket)
    return None


def spoil(rule: ActiveRule, request: Request, response: Response) -> Response:
    """What becomes of the answer to a request that was carried out."""
    match rule.rule.action:
        case Reset(after=after):
            return replace(response, cut_at=after, ending="reset")
        case Stall(after=after):
            return replace(response, cut_at=after, ending="stall", stalled_by=rule.id)
        case Truncate(after=after, honest=False):
            return replace(response, cut_at=after, ending="close")
        case Truncate(after=after) if response.body is not NOTHING:
            return replace(response, cut_at=after, length=min(after, response.body.length))
        case ChangeEtag(etag=etag):
            return _with_etag(response, etag)
        case ChangeContent(offset=offset, etag=etag) if response.body.length:
            start = request.logged.byte_range[0] if request.logged.byte_range else 0
            position = 0 if offset is None else offset - start
            changed = replace(response, body=response.body.inverted_at(position))
            return changed if etag is None else _with_etag(changed, etag)
    return response


def _with_etag(response: Response, etag: str) -> Response:
    quoted = f'"{etag}"'
    headers = [(name, quoted if name.lower() == "etag" else value) for name, value in response.headers]
    return replace(response, headers=headers, head=_ETAG.sub(f"ETag: {quoted}".encode(), response.head))
