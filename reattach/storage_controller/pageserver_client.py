"""Calling pageservers."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from typing import Any, TypeVar

from reattach.api import codec
from reattach.api.controller import TenantListLocations
from reattach.api.controller_points import Call, after, before
from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.api.location import LocationConfig
from reattach.api.lsn import Lsn
from reattach.api.timeline import TimelineInfo
from reattach.runtime import errors
from reattach.runtime.backoff import WARN_AFTER_FAILURES, delay_before
from reattach.runtime.failpoints import failpoints
from reattach.runtime.http_client import HttpResponse, TransportError, request_json
from reattach.storage_controller.core.model import Node
from reattach.storage_controller.metrics import Metrics

log = logging.getLogger(__name__)

T = TypeVar("T")

_TRANSIENT_STATUSES = frozenset({408, 503, 504})


class PageserverError(Exception):
    """A call to a pageserver failed.

    status: of its answer; None if none came.
    """

    def __init__(self, node: Node, text: str, status: int | None = None, *, timed_out: bool = False) -> None:
        super().__init__(text)
        self.node = node
        self.status = status
        self.timed_out = timed_out

    @property
    def is_transient(self) -> bool:
        return self.status is None or self.status in _TRANSIENT_STATUSES

    def to_api_error(self) -> errors.ApiError:
        """What the controller's own client is told."""
        text = f"{self.node}: {self}"
        match self.status:
            case None:
                return errors.Timeout(text) if self.timed_out else errors.ResourceUnavailable(text)
            case 404:
                return errors.NotFound(text)
            case 503:
                return errors.ResourceUnavailable(text)
            case 401 | 403:
                return errors.InternalError(text)
            case 200 | 201 | 202:
                return errors.InternalError(f"{self.node}: cannot read the answer: {self}")
        reason = f"{self.status} {_REASONS.get(self.status, '')}".rstrip()
        return errors.Conflict(f"{self.node} {reason}: {reason} {self}")


_REASONS = {
    400: "Bad Request",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    412: "Precondition Failed",
    429: "Too Many Requests",
    500: "Internal Server Error",
    504: "Gateway Timeout",
}


def base_url(node: Node, *, https: bool) -> str:
    a = node.address
    if https and a.listen_https_port is not None:
        return f"https://{a.listen_http_addr}:{a.listen_https_port}"
    return f"http://{a.listen_http_addr}:{a.listen_http_port}"


class PageserverClient:
    """Calls with a deadline each. Methods raise PageserverError."""

    def __init__(self, token: str | None, tls: ssl.SSLContext | None, https: bool, metrics: Metrics) -> None:
        self._token = token
        self._tls = tls
        self._https = https
        self._metrics = metrics

    async def send(
        self,
        node: Node,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        timeout: float,
        retries: int = 0,
        call: Call | None = None,
    ) -> HttpResponse:
        """The answer, whatever its status. Retries while the node cannot be reached or is not ready.

        timeout: seconds per attempt. Raises PageserverError if the last attempt got no answer.
        """
        url = base_url(node, https=self._https) + path
        failures = 0
        while True:
            if call is not None:
                await failpoints.hit(before(call))
            started = time.monotonic()
            answer: HttpResponse | None = None
            error: TransportError | None = None
            try:
                answer = await request_json(
                    method, url, body=body, token=self._token, timeout=timeout, tls=self._tls
                )
            except TransportError as e:
                error = e
            label = call or method
            self._metrics.pageserver_request_latency.labels(label).observe(time.monotonic() - started)
            if call is not None:
                await failpoints.hit(after(call))
            if answer is not None and answer.status not in _TRANSIENT_STATUSES:
                return answer
            self._metrics.pageserver_request_error.labels(node.id, label).inc()
            failures += 1
            reason = f"{answer.status} {message(answer)}" if answer is not None else str(error)
            if failures > retries:
                if retries:
                    log.info(
                        "Call to node %s (%s) management API still failed after %d retries, giving up: %s",
                        node.id,
                        url,
                        retries,
                        reason,
                    )
                if answer is not None:
                    return answer
                assert error is not None
                timed_out = isinstance(error.__cause__, TimeoutError)
                raise PageserverError(node, str(error), timed_out=timed_out) from error
            level = logging.WARNING if failures >= WARN_AFTER_FAILURES else logging.INFO
            log.log(
                level,
                "Call to node %s (%s) management API failed, will retry (attempt %d): %s",
                node.id,
                url,
                failures,
                reason,
            )
            await asyncio.sleep(delay_before(failures - 1))

    async def _call(
        self,
        node: Node,
        method: str,
        path: str,
        type_: type[T],
        *,
        body: object = None,
        timeout: float = 5.0,
        retries: int = 0,
        call: Call | None = None,
    ) -> T:
        raw = b"" if body is None else codec.encode(body)
        answer = await self.send(node, method, path, body=raw, timeout=timeout, retries=retries, call=call)
        if not answer.is_success:
            raise PageserverError(node, message(answer), answer.status)
        try:
            return codec.decode(answer.body, type_)
        except codec.DecodeError as e:
            raise PageserverError(node, str(e), answer.status) from e

    async def utilization_score(self, node: Node) -> int:
        value = await self._call(node, "GET", "/v1/utilization", dict[str, object], timeout=1.0)
        score = value.get("utilization_score")
        return score if isinstance(score, int) else 0

    async def list_locations(self, node: Node) -> dict[TenantShardId, LocationConfig | None]:
        """None where a location is just being changed."""
        listing = await self._call(node, "GET", "/v1/location_config", TenantListLocations)
        return dict(listing.tenant_shards)

    async def location(self, node: Node, shard: TenantShardId) -> LocationConfig | None:
        """None while it is being changed. Status 404 if there is none."""
        value = await self._call(node, "GET", f"/v1/location_config/{shard}", object, retries=1)
        return None if value is None else codec.convert(value, LocationConfig)

    async def configure_location(
        self,
        node: Node,
        shard: TenantShardId,
        location: LocationConfig,
        *,
        flush_ms: int | None = None,
        lazy: bool = False,
    ) -> None:
        log.info("location_config(%s) calling: %s %s", node, shard, location)
        query = "&".join(
            ([f"flush_ms={flush_ms}"] if flush_ms is not None else []) + (["lazy=true"] if lazy else [])
        )
        path = f"/v1/tenant/{shard}/location_config" + (f"?{query}" if query else "")
        await self._call(
            node, "PUT", path, object, body=location, timeout=25.0, retries=3, call=Call.LOCATION_CONFIG
        )
        log.info("location_config(%s) complete: %s %s", node, shard, location.mode)

    async def create_timeline(
        self, node: Node, shard: TenantShardId, body: object, *, timeout: float = 30.0
    ) -> dict[str, Any]:
        return await self._call(
            node,
            "POST",
            f"/v1/tenant/{shard}/timeline",
            dict[str, Any],
            body=body,
            timeout=timeout,
            call=Call.TIMELINE_CREATE,
        )

    async def list_timelines(self, node: Node, shard: TenantShardId) -> dict[TimelineId, Lsn]:
        """The last record LSN of each visible timeline."""
        infos = await self._call(
            node, "GET", f"/v1/tenant/{shard}/timeline", list[TimelineInfo], timeout=10.0, retries=1
        )
        return {info.timeline_id: info.last_record_lsn for info in infos}

    async def timeline(self, node: Node, shard: TenantShardId, timeline: TimelineId) -> dict[str, object]:
        return await self._call(
            node, "GET", f"/v1/tenant/{shard}/timeline/{timeline}", dict[str, object], retries=1
        )

    async def delete_timeline(self, node: Node, shard: TenantShardId, timeline: TimelineId) -> int:
        """The status: 202 accepted, 404 nothing (left) to delete, 409 under way, or another."""
        answer = await self.send(
            node,
            "DELETE",
            f"/v1/tenant/{shard}/timeline/{timeline}",
            timeout=10.0,
            retries=2,
            call=Call.TIMELINE_DELETE,
        )
        if answer.status in (200, 202, 404, 409):
            return answer.status
        raise PageserverError(node, message(answer), answer.status)

    async def delete_tenant(self, node: Node, tenant: TenantId) -> None:
        """Removes the tenant's objects from remote storage."""
        answer = await self.send(
            node, "DELETE", f"/v1/tenant/{tenant}", timeout=30.0, retries=2, call=Call.TENANT_DELETE
        )
        if not answer.is_success and answer.status != 404:
            raise PageserverError(node, message(answer), answer.status)

    async def activate_post_import(self, node: Node, shard: TenantShardId, timeline: TimelineId) -> None:
        path = f"/v1/tenant/{shard}/timeline/{timeline}/activate_post_import?timeline_activate_timeout_ms=128"
        await self._call(node, "PUT", path, object, timeout=5.0, call=Call.ACTIVATE_POST_IMPORT)

    async def secondary_download(self, node: Node, shard: TenantShardId, wait: float) -> bool:
        """Whether the secondary is warm. `wait`: seconds that the pageserver may take."""
        answer = await self.send(
            node,
            "POST",
            f"/v1/tenant/{shard}/secondary/download?wait_ms={int(wait * 1000)}",
            timeout=wait + 5.0,
            retries=1,
            call=Call.SECONDARY_DOWNLOAD,
        )
        if not answer.is_success:
            raise PageserverError(node, message(answer), answer.status)
        return answer.status == 200

    async def wait_lsn(self, node: Node, shard: TenantShardId, lsns: dict[TimelineId, Lsn]) -> bool:
        """Whether every timeline has reached its LSN; False also from pageservers that cannot wait."""
        answer = await self.send(
            node,
            "POST",
            f"/v1/tenant/{shard}/wait_lsn",
            body=codec.encode(
                {
                    **{str(timeline): str(lsn) for timeline, lsn in lsns.items()},
                    "timeout": {"secs": 10, "nanos": 0},
                }
            ),
            timeout=15.0,
            call=Call.WAIT_LSN,
        )
        return answer.status == 200


def message(answer: HttpResponse) -> str:
    """The `msg` of an error body, or the body's text."""
    try:
        body = json.loads(answer.body)
    except ValueError:
        return answer.body[:500].decode("utf-8", "replace")
    if isinstance(body, dict) and isinstance(body.get("msg"), str):
        return str(body["msg"])
    return str(body)
