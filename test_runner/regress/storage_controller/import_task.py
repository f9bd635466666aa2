"""The import task of a fake pageserver."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from test_runner.regress.storage_controller.api import NoAnswer

if TYPE_CHECKING:
    from test_runner.regress.storage_controller.fake_pageserver import FakePageserver, Location


class ImportTask:
    """Asks where it stands, reports each job, then that it is done; again and again until it is heard."""

    def __init__(
        self, node: FakePageserver, shard: str, location: Location, timeline: str, epoch: int
    ) -> None:
        self._node = node
        self._shard = shard
        self._location = location
        self._timeline = timeline
        self._epoch = epoch

    def _request(self, method: str, **more: Any) -> Any:
        """The answer's body; None if this location is gone before it came."""
        body = {
            "tenant_shard_id": self._shard,
            "timeline_id": self._timeline,
            "generation": self._location.generation,
            **more,
        }
        wait = threading.Event()
        while self._node.is_current(self._shard, self._location, self._epoch):
            try:
                status, answer = self._node.controller.call(method, "/upcall/v1/timeline_import_status", body)
            except NoAnswer:
                pass
            else:
                if status == 200:
                    return answer if method == "GET" else True
            wait.wait(0.02)
        return None

    def run(self) -> None:
        status = self._request("GET")
        if status is None:
            return
        if status != "Done" and "Error" not in status:
            progress = status["InProgress"]
            done = progress["V1"]["completed"] if progress else 0
            for completed in range(done + 1, self._node.jobs + 1):
                plan = {"jobs": self._node.jobs, "import_plan_hash": 2**64 - 1, "job_soft_size_limit": 1}
                report = {"InProgress": {"V1": {**plan, "completed": completed}}}
                if self._request("POST", status=report) is None:
                    return
            if self._request("POST", status="Done") is None:
                return
        self._node.finish_task(self._shard, self._timeline)
