"""What remote storage has lost ends an import with a reason that names it, whenever that is noticed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reattach.api.ids import TenantShardId, TimelineId
from reattach.fixtures.processes import wait_for
from test_runner.regress.pageserver.one_pageserver import PageserverProcess
from test_runner.regress.pageserver.remote_files import RemoteTimeline
from test_runner.regress.pageserver.subject import REL, Subject

Harm = Callable[[Path], object]

CHECKPOINTED = "import-job-6-taken-pausable"
BEFORE_DONE = "import-timeline-pre-success-notify-pausable"


def wait_error(subject: Subject) -> str:
    """The reason that the import ended with."""

    def error() -> str | None:
        recorded = subject.recorded()
        return recorded.get("Error") if isinstance(recorded, dict) else None

    found = wait_for(error, what="an error", timeout=30, alive=subject.pageserver.running)
    assert found is not None
    return found


def import_to_checkpoint(subject: Subject) -> None:
    """As `import_until`, also where another timeline has passed there."""
    subject.pageserver.failpoint(CHECKPOINTED, "pause")
    subject.create_import()
    subject.pageserver.wait_log(f"{subject.timeline}.*at failpoint {CHECKPOINTED}")


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def edit(**changes: object) -> Harm:
    def harm(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))

    return harm


INDEX_HARMS: dict[str, Harm] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "binary": lambda path: path.write_bytes(os.urandom(500)),
    "nul": lambda path: path.write_bytes(bytes(500)),
    "other json": lambda path: path.write_text("[]"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "wrong version": edit(version="x"),
    "wrong layers": edit(layer_metadata=[]),
    "bad layer name": edit(layer_metadata={"x": {"file_size": 1}}),
    "bad state": edit(import_pgdata={"V1": {"InProgress": 5}}),
    "gone": Path.unlink,
    "a directory": make_directory,
}


@pytest.mark.parametrize("harm", INDEX_HARMS)
def test_an_index_that_cannot_be_read(subject: Subject, harm: str) -> None:
    """I11: the next attachment tells the controller, and the rest of the tenant shard is attached."""
    pageserver = subject.pageserver
    generation = subject.attach()
    other = TimelineId.generate()
    pageserver.import_and_activate(subject.tenant, other, subject.bucket.root)
    import_to_checkpoint(subject)
    pageserver.kill()
    INDEX_HARMS[harm](subject.remote.directory / f"index_part.json-{generation:08x}")
    pageserver.start()
    pageserver.failpoint(CHECKPOINTED, "off")
    assert "index_part.json" in wait_error(subject)
    assert pageserver.get_page(subject.tenant, other, REL.block(0)) == subject.source_page(0)
    subject.create_import(expect=409, insert_row=False)
    subject.delete_until_gone()
    assert [path for path in subject.remote.directory.rglob("*") if path.is_file()] == []


def test_nothing_at_all_is_left(subject: Subject) -> None:
    """I11: the local directory is enough to know that something was there."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_until(CHECKPOINTED)
    pageserver.kill()
    for path in subject.remote.directory.iterdir():
        path.unlink()
    pageserver.start()
    assert "remote storage has nothing of it" in wait_error(subject)


def test_a_creation_that_is_under_way_is_not_lost(subject: Subject) -> None:
    """I10: before its first index a timeline has a local directory only; whoever creates it asks again."""
    pageserver = subject.pageserver
    subject.attach()
    pageserver.controller.expect_import(str(subject.tenant), str(subject.timeline))
    subject.directory.mkdir()
    pageserver.kill()
    pageserver.start()
    pageserver.wait_log("removing local timeline")
    wait_for(
        lambda: pageserver.controller.called("timeline_import_status", "GET"),
        what="the question whether it is an import",
        timeout=20,
        alive=pageserver.running,
    )
    subject.import_and_activate()


def test_an_unreadable_index_of_no_import(subject: Subject) -> None:
    """A timeline whose import has ended is left alone, for a person to look at."""
    pageserver = subject.pageserver
    generation = subject.attach()
    subject.import_and_activate()
    pageserver.kill()
    with pageserver.controller.lock:
        pageserver.controller.imports.clear()
    (subject.remote.directory / f"index_part.json-{generation:08x}").write_text("{")
    before = subject.remote.layers()
    pageserver.start()
    pageserver.wait_log("is no import that can be ended")
    assert subject.remote.layers() == before
    assert pageserver.controller.imports == {}


def layer_of_a_checkpoint(remote: RemoteTimeline) -> Path:
    return remote.directory / sorted(remote.layers())[0]


LAYER_HARMS: dict[str, Harm] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("wiped", [True, False], ids=["empty_disk", "disk"])
@pytest.mark.parametrize("harm", LAYER_HARMS)
def test_a_layer_of_a_checkpoint_before_a_resume(subject: Subject, harm: str, wiped: bool) -> None:
    """I2: nobody goes on from a checkpoint that is not there any more."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_until(CHECKPOINTED)
    pageserver.kill()
    if wiped:
        pageserver.wipe_disk()
    layer = layer_of_a_checkpoint(subject.remote)
    LAYER_HARMS[harm](layer)
    pageserver.start()
    pageserver.failpoint(CHECKPOINTED, "off")
    subject.attach()
    assert layer.name in wait_error(subject)
    assert not pageserver.log_lines("gen=[23].*import job .* started")


@pytest.mark.parametrize("harm", LAYER_HARMS)
def test_a_layer_before_the_end(subject: Subject, harm: str) -> None:
    """I2: Done is told of what is there."""
    subject.attach()
    subject.import_until(BEFORE_DONE)
    layer = layer_of_a_checkpoint(subject.remote)
    LAYER_HARMS[harm](layer)
    subject.pageserver.failpoint(BEFORE_DONE, "off")
    assert layer.name in wait_error(subject)


def test_an_index_older_than_the_checkpoint(subject: Subject) -> None:
    """I2: the newest index is lost, the one before it knows less than is recorded."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_until("import-job-2-taken-pausable")
    pageserver.kill()
    pageserver.controller.next_generation(str(subject.tenant))
    pageserver.start({"FAILPOINTS": f"{CHECKPOINTED}=pause"})
    pageserver.wait_log(f"at failpoint {CHECKPOINTED}")
    pageserver.kill()
    indices = sorted(name for name in subject.remote.objects() if name.startswith("index_part"))
    assert len(indices) == 2
    (subject.remote.directory / indices[-1]).unlink()
    pageserver.start()
    assert "the index lacks layer" in wait_error(subject)


def test_a_manifest_that_cannot_be_read_is_named(subject: Subject) -> None:
    pageserver, tenant = subject.pageserver, subject.tenant
    subject.attach()
    subject.import_and_activate()
    pageserver.kill()
    (manifest,) = (subject.remote.root / "tenants" / str(tenant)).glob("tenant-manifest*")
    manifest.write_text("{")
    pageserver.start()
    broken = pageserver.call("GET", f"/v1/tenant/{tenant}/timeline", expect=500)
    assert manifest.name in broken["msg"]


@pytest.mark.parametrize(
    ("point", "failures"), [("storage-sync-list-remote-timelines", 1), ("attach-before-activate", 2)]
)
def test_a_moment_of_trouble_at_attach(
    pageserver: PageserverProcess, tenant: TenantShardId, point: str, failures: int
) -> None:
    """I10: nobody has to ask again; meanwhile everybody sees what is wrong."""
    pageserver.failpoint(point, f"{failures}*return")
    pageserver.attach(tenant)
    state = pageserver.call("GET", f"/v1/tenant/{tenant}")["state"]
    assert state["slug"] == "Broken"
    assert "will be tried again" in state["data"]["reason"]
    wait_for(
        lambda: pageserver.call("GET", f"/v1/tenant/{tenant}")["state"]["slug"] == "Active",
        what="the attachment",
        timeout=20,
        alive=pageserver.running,
    )
    assert len(pageserver.log_lines("attach failed")) == failures
    assert "pageserver_broken_tenants_count{" not in pageserver.request("GET", "/metrics").text


def test_a_moment_of_trouble_with_an_import_half_attached(subject: Subject) -> None:
    """I5: what the failed attempt had begun has ended before the next one begins."""
    pageserver = subject.pageserver
    subject.attach()
    other = TimelineId.generate()
    pageserver.import_and_activate(subject.tenant, other, subject.bucket.root)
    import_to_checkpoint(subject)
    pageserver.kill()
    blocked = pageserver.timeline_dir(subject.tenant, other)
    for path in blocked.iterdir():
        path.unlink()
    blocked.rmdir()
    blocked.write_text("in the way")
    pageserver.start()
    pageserver.wait_log("attach failed .attempt 2.*will be tried again.*" + str(other))
    blocked.unlink()
    subject.wait_recorded()
    started = pageserver.log_lines("gen=2.*import job .* started")
    assert len(started) == len(set(started))
    assert subject.activate()["state"] == "Active"
