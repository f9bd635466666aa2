"""What most tests of a pageserver are about: one timeline of one tenant shard, imported from one bucket."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reattach.api.ids import TenantShardId, TimelineId
from reattach.api.key import BLCKSZ, RelTag
from reattach.fixtures.processes import wait_for
from test_runner.regress.pageserver.one_pageserver import PageserverProcess
from test_runner.regress.pageserver.remote_files import RemoteTimeline
from test_runner.unit.import_pgdata.data_directory import DataDirectory

REL = RelTag(1663, 5, 16384, 0)
REL_PATH = "pgdata/base/5/16384"
"""A relation of `small_data_directory`, which tests look into."""


@dataclass(frozen=True)
class Subject:
    """A pageserver and what it is asked about."""

    pageserver: PageserverProcess
    bucket: DataDirectory
    tenant: TenantShardId
    timeline: TimelineId

    @property
    def path(self) -> str:
        """The timeline's path in the pageserver's API."""
        return f"/v1/tenant/{self.tenant}/timeline/{self.timeline}"

    @property
    def directory(self) -> Path:
        """The timeline's directory on the pageserver's disk."""
        return self.pageserver.timeline_dir(self.tenant, self.timeline)

    @property
    def remote(self) -> RemoteTimeline:
        """The timeline's objects, if remote storage is a directory."""
        root = Path(self.pageserver.config["remote_storage"]["local_path"])
        return RemoteTimeline(root, self.tenant, self.timeline)

    def attach(self, mode: str = "AttachedSingle") -> int:
        """Attaches in the next generation, and returns it."""
        return self.pageserver.attach(self.tenant, mode)

    def detach(self) -> None:
        self.pageserver.detach(self.tenant)

    def create_import(self, *, key: str = "key", expect: int = 201, insert_row: bool = True) -> Any:
        return self.pageserver.create_import(
            self.tenant, self.timeline, self.bucket.root, key=key, expect=expect, insert_row=insert_row
        )

    def import_until(self, failpoint: str) -> None:
        """Begins the import, which stands still at the failpoint on return."""
        self.pageserver.failpoint(failpoint, "pause")
        self.create_import()
        self.pageserver.wait_log(f"at failpoint {failpoint}")

    def recorded(self) -> Any:
        """The import's status at the controller."""
        return self.pageserver.recorded(self.tenant, self.timeline)

    def wait_recorded(self, status: Any = "Done") -> None:
        self.pageserver.wait_recorded(self.tenant, self.timeline, status)

    def activate(self) -> Any:
        return self.pageserver.activate(self.tenant, self.timeline)

    def import_and_activate(self) -> Any:
        return self.pageserver.import_and_activate(self.tenant, self.timeline, self.bucket.root)

    def get_page(self, key: object) -> bytes:
        return self.pageserver.get_page(self.tenant, self.timeline, key)

    def source_page(self, block: int) -> bytes:
        """A page of `REL` as the bucket has it."""
        return self.bucket.read(REL_PATH)[block * BLCKSZ : (block + 1) * BLCKSZ]

    def delete_until_gone(self) -> None:
        """What callers do: DELETE until 404."""

        def is_gone() -> bool:
            response = self.pageserver.request("DELETE", self.path)
            assert response.status_code in (202, 409, 404), response.text
            return response.status_code == 404

        wait_for(is_gone, what="404", timeout=20, alive=self.pageserver.running)

    def assert_gone(self) -> None:
        """I9: nothing is left, here or in remote storage."""
        assert self.remote.objects() == set()
        assert list(self.directory.parent.iterdir()) == []
