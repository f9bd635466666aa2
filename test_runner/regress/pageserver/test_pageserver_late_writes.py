"""A pageserver that was given up goes on: what it writes neither comes to life nor stays."""

from __future__ import annotations

import pytest

from reattach.fixtures.bucket.server import BucketServer
from reattach.fixtures.processes import wait_for
from test_runner.regress.pageserver.one_pageserver import PageserverProcess
from test_runner.regress.pageserver.remote_files import bucket_keys
from test_runner.regress.pageserver.subject import REL, Subject

INDEX = "before-upload-index-pausable"
LAYER = "before-upload-layer-pausable"


def delete_on(server: PageserverProcess, path: str) -> None:
    """DELETE until 404."""

    def is_gone() -> bool:
        response = server.request("DELETE", path)
        assert response.status_code in (202, 409, 404), response.text
        return response.status_code == 404

    wait_for(is_gone, what="404", timeout=20, alive=server.running)


def wait_empty(subject: Subject, server: PageserverProcess) -> None:
    wait_for(
        lambda: subject.remote.objects() == set(),
        what="the late objects to go",
        timeout=20,
        alive=server.running,
    )


def late_index(subject: Subject, second: PageserverProcess) -> None:
    """The timeline was deleted on `second`; after that the first pageserver uploads layers and an index."""
    subject.attach()
    subject.import_until(LAYER)
    second.attach(subject.tenant)
    delete_on(second, subject.path)
    assert subject.remote.objects() == set()
    subject.pageserver.failpoint(LAYER, "off")
    wait_for(
        lambda: "index_part.json-00000001" in subject.remote.objects(),
        what="the late index",
        timeout=20,
        alive=subject.pageserver.running,
    )


def test_gone_when_the_late_one_is_detached(subject: Subject, second: PageserverProcess) -> None:
    """I9: it knows what it had, and looks whether that was deleted meanwhile."""
    late_index(subject, second)
    subject.detach()
    assert subject.remote.objects() == set()


def test_gone_when_the_late_one_becomes_a_secondary(subject: Subject, second: PageserverProcess) -> None:
    late_index(subject, second)
    subject.pageserver.location(subject.tenant, "Secondary")
    assert subject.remote.objects() == set()


def test_gone_when_the_late_one_starts_again(subject: Subject, second: PageserverProcess) -> None:
    """I9: killed before anybody told it, it finds that the tenant shard does not belong to it any more."""
    late_index(subject, second)
    pageserver = subject.pageserver
    pageserver.kill()
    pageserver.controller.detach(str(subject.tenant))
    pageserver.start()
    wait_empty(subject, pageserver)


@pytest.mark.parametrize("index", ["late", "none", "unreadable"])
def test_never_attached(subject: Subject, second: PageserverProcess, index: str) -> None:
    """I9: whatever came late is neither loaded nor reported, and the next attachment removes it."""
    late_index(subject, second)
    subject.pageserver.kill()
    path = subject.remote.directory / "index_part.json-00000001"
    if index == "none":
        path.unlink()
    elif index == "unreadable":
        path.write_text("{")
    asked = len(second.controller.called("timeline_import_status", "GET"))
    second.attach(subject.tenant)
    assert second.call("GET", f"/v1/tenant/{subject.tenant}/timeline") == []
    wait_empty(subject, second)
    assert len(second.controller.called("timeline_import_status", "GET")) == asked
    delete_on(second, subject.path)
    second.kill()
    second.start()
    assert second.call("GET", f"/v1/tenant/{subject.tenant}/timeline") == []


def test_a_creation_that_comes_after_the_deletion(subject: Subject, second: PageserverProcess) -> None:
    """I9: a deletion also counts for a timeline that nobody here has seen yet."""
    subject.attach()
    second.attach(subject.tenant)
    second.call("DELETE", subject.path, expect=404)
    subject.create_import(insert_row=False)
    assert subject.remote.objects() != set()
    second.attach(subject.tenant)
    assert second.call("GET", f"/v1/tenant/{subject.tenant}/timeline") == []
    wait_empty(subject, second)


def test_a_late_deletion_does_not_meet_a_later_timeline(subject: Subject, second: PageserverProcess) -> None:
    """I8: the same id may be created again; what is of its predecessor stays dead, only that."""
    late_index(subject, second)
    second.import_and_activate(subject.tenant, subject.timeline, subject.bucket.root)
    subject.detach()
    page = second.get_page(subject.tenant, subject.timeline, REL.block(0))
    assert page == subject.source_page(0)
    second.attach(subject.tenant)
    assert second.get_page(subject.tenant, subject.timeline, REL.block(0)) == page
    assert "index_part.json-00000001" not in subject.remote.objects()
    delete_on(second, subject.path)
    wait_empty(subject, second)


def test_created_where_it_was_deleted_by_a_later_attachment(
    subject: Subject, second: PageserverProcess
) -> None:
    second.controller.next_generation(str(subject.tenant))
    second.attach(subject.tenant)
    delete_on(second, subject.path)
    subject.pageserver.location(subject.tenant, "AttachedSingle", 1)
    answer = subject.create_import(expect=409, insert_row=False)
    assert "deleted in generation 00000002" in answer["msg"]


def test_late_objects_of_an_import_that_another_finished(subject: Subject, second: PageserverProcess) -> None:
    """Only what the finished index does not reference goes, and only when it is finished."""
    subject.attach()
    subject.import_until("import-job-3-taken-pausable")
    seen = len(subject.pageserver.log_lines(f"at failpoint {INDEX}"))
    subject.pageserver.failpoint(INDEX, "pause")
    subject.pageserver.failpoint("import-job-3-taken-pausable", "off")
    subject.pageserver.wait_log(f"at failpoint {INDEX}", seen + 1)
    second.failpoint("import-job-7-taken-pausable", "pause")
    generation = second.attach(subject.tenant)
    second.wait_log("at failpoint import-job-7-taken-pausable")
    second.failpoint("import-job-7-taken-pausable", "off")
    second.wait_recorded(subject.tenant, subject.timeline)
    second.activate(subject.tenant, subject.timeline)
    second.call("PUT", "/v1/deletion_queue/flush?execute=true")
    named = subject.remote.referenced(generation)
    before = subject.remote.objects()
    assert before == named | {f"index_part.json-{generation:08x}"}
    assert any(name.endswith("-00000001") for name in named)
    subject.pageserver.failpoint(INDEX, "off")
    wait_for(lambda: subject.remote.objects() > before, what="late objects", timeout=20, alive=second.running)
    subject.detach()
    assert subject.remote.objects() == before
    subject.remote.assert_index_is_durable(generation)


def test_in_s3(
    s3_subject: Subject, second: PageserverProcess, bucket_server: BucketServer, remote_bucket: str
) -> None:
    """I9: the same in S3."""
    pageserver = s3_subject.pageserver
    second.stop()
    second.configure(remote_storage=pageserver.config["remote_storage"])
    second.start(bucket_server.environment("pageserver"))
    s3_subject.attach()
    s3_subject.import_until(LAYER)
    second.attach(s3_subject.tenant)
    delete_on(second, s3_subject.path)

    def objects() -> set[str]:
        keys = bucket_keys(bucket_server, remote_bucket)
        return {key for key in keys if f"/timelines/{s3_subject.timeline}/" in key}

    assert objects() == set()
    pageserver.failpoint(LAYER, "off")
    wait_for(objects, what="late objects", timeout=20, alive=pageserver.running)
    s3_subject.detach()
    assert objects() == set()


@pytest.mark.parametrize("times", [1, 3])
def test_nothing_is_left_over_of_an_import(subject: Subject, times: int) -> None:
    """What interrupted attachments wrote goes when the import is finished."""
    pageserver = subject.pageserver
    subject.attach()
    subject.import_until("import-job-3-taken-pausable")
    for number in range(times):
        point = f"import-job-{4 + 2 * number}-taken-pausable"
        pageserver.kill()
        pageserver.controller.next_generation(str(subject.tenant))
        pageserver.start({"FAILPOINTS": f"{point}=pause"})
        pageserver.wait_log(f"at failpoint {point}")
    generation = subject.attach()
    subject.wait_recorded()
    assert len(subject.remote.objects()) > len(subject.remote.referenced(generation)) + 1
    subject.activate()
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    index = f"index_part.json-{generation:08x}"
    assert subject.remote.objects() == subject.remote.referenced(generation) | {index}
    assert subject.get_page(REL.block(0)) == subject.source_page(0)


def test_what_is_left_over_goes_with_the_next_attachment(subject: Subject) -> None:
    """I8: the owner's own index comes first, so that no older one can be taken for it afterwards."""
    pageserver = subject.pageserver
    generation = subject.attach()
    subject.import_and_activate()
    pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    clean = subject.remote.objects()
    directory = subject.remote.directory
    layer = sorted(subject.remote.layers())[0]
    for name in (f"{layer[:-8]}00000000", "import_source-00000001", "index_part.json-00000000"):
        (directory / name).write_bytes(b"old")
    later = directory / f"{layer[:-8]}00000009"
    later.write_bytes(b"of a later attachment")
    pageserver.attach(subject.tenant)
    pageserver.wait_log("objects are left over", 2)
    mine = {name.replace(f"json-{generation:08x}", f"json-{generation + 1:08x}") for name in clean}

    def only_mine() -> bool:
        # They are given to the deletion queue once the index is there.
        pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
        return subject.remote.objects() == mine | {later.name}

    wait_for(only_mine, what="what is left over to go", timeout=10, alive=pageserver.running)
    assert subject.get_page(REL.block(0)) == subject.source_page(0)


def test_a_stale_attachment_removes_nothing(subject: Subject, second: PageserverProcess) -> None:
    """I4: only whom the controller confirms deletes what is left over."""
    subject.attach()
    subject.import_and_activate()
    subject.pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    second.attach(subject.tenant)
    old = subject.remote.directory / "import_source-00000000"
    old.write_bytes(b"old")
    subject.pageserver.call("POST", f"/v1/tenant/{subject.tenant}/reset")
    subject.pageserver.wait_log("objects are left over", 2)
    subject.pageserver.call("PUT", "/v1/deletion_queue/flush?execute=true")
    assert old.exists()
