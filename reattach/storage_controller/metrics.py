"""What `/metrics` shows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)


class Metrics:
    """The metrics of one controller, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        counter, gauge = self._counter, self._gauge
        self.reconcile_spawn = counter("reconcile_spawn", "reconciles started")
        self.reconcile_complete = counter("reconcile_complete", "reconciles ended", "status")
        self.tenant_shards = gauge("tenant_shards", "tenant shards in memory")
        self.pageserver_nodes = gauge("pageserver_nodes", "registered pageservers")
        self.pending_reconciles = gauge("pending_reconciles", "reconciles that run or wait to be retried")
        self.node_shards = gauge("node_shards", "shards attached to a node", "node_id")
        self.schedule_optimization = counter("schedule_optimization", "shards moved to a better place")
        self.schedule_az_violation = gauge(
            "schedule_az_violation", "shards attached outside of their preferred zone"
        )
        self.stuck_reconciles = gauge("stuck_reconciles", "reconciles that take long")
        self.http_request_status = counter("http_request_status", "requests", "path", "method", "status")
        self.http_request_latency = self._histogram(
            "http_request_latency", "seconds per request", "path", "method"
        )
        self.pageserver_request_error = counter(
            "pageserver_request_error", "failed calls to pageservers", "pageserver_id", "call"
        )
        self.pageserver_request_latency = self._histogram(
            "pageserver_request_latency", "seconds per call to a pageserver", "call"
        )
        self.passthrough_request_error = counter(
            "passthrough_request_error", "failed forwarded requests", "pageserver_id"
        )
        self.database_query_error = counter(
            "database_query_error", "failed transactions", "error_type", "operation"
        )
        self.database_query_latency = self._histogram(
            "database_query_latency", "seconds per transaction", "operation"
        )
        self.leadership_status = gauge("leadership_status", "1 for the present status", "status")
        self.import_status_updates = counter(
            "timeline_import_status_updates", "statuses that pageservers reported", "outcome"
        )
        self.import_notifications = counter(
            "timeline_import_notifications", "times that the control plane was told of an import", "outcome"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"storage_controller_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"storage_controller_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(
            f"storage_controller_{name}", text, labels, registry=self._registry, buckets=_LATENCIES
        )

    def text(self) -> bytes:
        return generate_latest(self._registry)
