"""What the judge says when imports, generations and messages get in each other's way: each healthy history
beside the lie that looks like it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reattach.api.effects import EffectClass, Front
from reattach.api.history import Attributes
from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.fixtures.judge.neon.judge import judge
from test_runner.unit.judge.story import BUCKET, JOBS, SIZE, TENANT, TIMELINE, Story, layer, with_reference

OTHER_TENANT, OTHER_TIMELINE = TenantId("cc" * 16), TimelineId("dd" * 16)


def begun() -> Story:
    return Story().begin()


def beside(
    one: Story, source: str, pageserver: str = "pageserver_1", timeline: TimelineId = TIMELINE
) -> Story:
    """Another tenant's import in the same history; without `timeline` its timeline has the same id."""
    other = Story(
        TenantShardId.unsharded(OTHER_TENANT),
        pageserver=pageserver,
        source=source,
        timeline=timeline,
        lines=one.lines,
        _counts=one._counts,
        _effect=1000,
    )
    return other.begin()


def failures(story: Story, number: str) -> list[str]:
    return [one.sentence for one in judge(with_reference(story)).failures if one.number == number]


# -- several imports


def refused_each_in_its_own_source() -> Story:
    """Each is refused the same file of its own bucket, less often than one import may be."""
    one = begun()
    other = beside(one, "elsewhere")
    for _ in range(9):
        one.read(1, status=403)
        other.read(1, status=403)
    return one


def refused_while_another_import_begins() -> Story:
    """What another import of another bucket asks and reads is no new try of the first."""
    one = begun()
    other = beside(one, "elsewhere")
    for _ in range(12):
        one.read(1, status=403)
        other.ask()
        other.read(1)
    return one


def refused_as_often_as_two_that_were_there() -> Story:
    """The other import of the source is not back since the pageserver has started again."""
    one = begun()
    other = beside(one, one.source)
    one._effect = 2000
    one.kill().re_attach(2).ask()
    for _ in range(19):
        one.read(1, status=403)
    return other


def imported_again_after_a_change() -> Story:
    """Each import has read one bucket, though between them it has become another."""
    one = begun().read(1, etag="before").jobs(1, JOBS).end()
    other = beside(one, one.source)
    return other.read(1, etag="after").jobs(1, JOBS).end()


def changed_while_another_import_was_there() -> Story:
    one = begun()
    other = beside(one, one.source, "pageserver_2")
    other.read(1, etag="before")
    one.read(1, etag="before").jobs(1, 4).read(1, etag="after")
    return one.jobs(5, JOBS).end()


def read_again_beside_another_import() -> Story:
    """Two of one bucket, each on its pageserver, so it can be told whose reads they are."""
    one = begun()
    other = beside(one, one.source, "pageserver_2", OTHER_TIMELINE)
    one.jobs(1, JOBS).end()
    other.jobs(1, 4)
    return other.kill().re_attach(2).ask(4).read(3).jobs(5, JOBS)


def another_import_reads_what_this_one_has_done() -> Story:
    """Two of one bucket and of one timeline id on one pageserver; one of them begins."""
    one = begun().jobs(1, 4)
    other = beside(one, one.source)
    one._effect = 2000
    one.kill().re_attach(2)
    other.incarnation = one.incarnation
    other.re_attach(2).ask()
    one.ask(4)
    other.jobs(1, 4)
    one._effect = 3000
    return one.jobs(5, JOBS).end()


def reads_after_a_detach(shard_went_at_the_restart: bool = True) -> Story:
    """Another import of the source had been there before the pageserver's last start, or is there still."""
    one = begun().jobs(1, 4)
    other = beside(one, one.source)
    one._effect = 2000
    one.kill()
    other.incarnation = one.incarnation
    one.re_attach(2).ask(4)
    if not shard_went_at_the_restart:
        other.re_attach(2).ask()
    one._effect = 3000
    one.location("Detached")
    for _ in range(20):
        one.read(5)
    return one


def another_import_of_the_source_came_back() -> Story:
    return reads_after_a_detach(shard_went_at_the_restart=False)


def a_shard_takes_its_time_to_go(reads: bool = True) -> Story:
    """Two were told to go, and the second is gone first: the first may read until it is."""
    one, two = (Story(TenantShardId(TENANT, number, 2)) for number in (0, 1))
    two.lines, two._counts, two._effect = one.lines, one._counts, 1000
    one.begin().jobs(1, 4)
    two.begin().jobs(1, 4)
    first = one.arrive_location("Detached")
    two.location("Detached")
    if reads:
        _reads_often(one)
    one.whole(first)
    if not reads:
        _reads_often(one)
    return one


def both_shards_are_gone() -> Story:
    return a_shard_takes_its_time_to_go(reads=False)


def _reads_often(s: Story) -> Story:
    for _ in range(20):
        s.read(5)
    return s


def reads_after_a_deletion() -> Story:
    return _reads_often(begun().jobs(1, 4).index(deleted=True).delete())


def another_import_reads_after_a_deletion() -> Story:
    one = begun().jobs(1, 4)
    beside(one, one.source, timeline=OTHER_TIMELINE)
    one._effect = 2000
    return _reads_often(one.index(deleted=True).delete())


def many_reads_were_under_way() -> Story:
    """As many as its settings let be; their answers come when it has gone."""
    s = begun()
    s.settings(concurrency=32)
    s.jobs(1, 4).location("Detached")
    for _ in range(20):
        s.read(5)
    return s.attach(2).ask(4).jobs(5, JOBS).end()


# -- messages that overtake each other


def told_of_its_generation_before_it_has_the_answer(late: bool = False) -> Story:
    """The controller has given a starting pageserver its generation, and tells it of it at once.

    late: it had been told before it started again.
    """
    s = begun().jobs(1, 4)
    if late:
        s.location("AttachedSingle", 2)
    s.kill()
    of = EffectClass("pageserver_1", "storage_controller", "post", "re-attach")
    effect = s.arrive(of, Front.HTTP, {"method": "POST", "path": "/upcall/v1/re-attach", "body": {}})
    if not late:
        s.location("AttachedSingle", 2)
    entry = {"id": str(s.shard), "gen": 2, "mode": "AttachedSingle", "stripe_size": 2048}
    s.whole(effect, body={"tenants": [entry]})
    s.generation = 2
    return s.ask(4).jobs(5, JOBS).end()


def given_again_what_it_may_have_been_told() -> Story:
    return told_of_its_generation_before_it_has_the_answer(late=True)


def given_again_what_an_answer_was_lost_of() -> Story:
    """It may have taken the generation that it was told, though nobody has heard so."""
    s = begun().jobs(1, 4)
    s.drop(s.arrive_location("AttachedSingle", 2))
    return s.kill().re_attach(2).ask(4).jobs(5, JOBS).end()


def attached_by_what_a_detach_has_overtaken() -> Story:
    """The order to attach was under way for so long that it is carried out after the next one."""
    s = begun().jobs(1, 4)
    s.generation = 2
    attach = s.arrive_location("AttachedSingle", 2)
    s.location("Detached")
    s.whole(attach)
    return s.ask(4).jobs(5, JOBS).end()


def works_though_the_detach_came_last() -> Story:
    s = begun().jobs(1, 4)
    s.generation = 2
    attach = s.arrive_location("AttachedSingle", 2)
    detach = s.arrive_location("Detached")
    s.whole(attach)
    s.whole(detach)
    return s.ask(4).jobs(5, JOBS).end()


def asked_by_an_old_one_and_answered_late() -> Story:
    """The answer to the old attachment passes when the new one has gone on. Who asks again begins nothing."""
    s = begun().jobs(1, 4)
    old, s.pageserver = s.pageserver, "pageserver_2"
    s.attach(2)
    s.ask(4).jobs(5, 8)
    s.pageserver, s.generation = old, 1
    s.ask(4)
    s.pageserver, s.generation = "pageserver_2", 2
    s.ask(8)
    return s.jobs(9, JOBS).end()


def forgets_what_its_own_generation_has_told() -> Story:
    return begun().jobs(1, 8).ask(4)


# -- answers that are lost


def recorded_as_it_hears_when_it_asks(heard: int = 4) -> Story:
    """The controller dies when it has recorded the report, and refuses it then; but it has it."""
    s = begun().jobs(1, 3)
    s.put_layer(4)
    s.index([1, 2, 3, 4])
    s.drop(s.reports(4))
    s.checkpoint(4, status=500)
    s.ask(heard if heard else None)
    for job in range(5, 9):
        s.put_layer(job)
    for job in range(9, JOBS + 1):
        s.read(job)
    s.index(range(5, 9))
    s.checkpoint(8)
    for job in range(9, JOBS + 1):
        s.put_layer(job)
    s.index(range(9, JOBS + 1))
    s.checkpoint(JOBS)
    return s.end()


def given_up_and_not_recorded() -> Story:
    return recorded_as_it_hears_when_it_asks(heard=0)


def further_ahead_than_it_knows() -> Story:
    """Only what it was told when it asked lets it run so far."""
    s = begun()
    s.settings(window=4)
    s.jobs(1, 3).put_layer(4)
    s.index([1, 2, 3, 4])
    s.drop(s.reports(4))
    s.ask(4)
    for job in range(5, JOBS + 1):
        s.read(job)
    return s


def ended_by_a_report_whose_answer_was_lost(refused: bool = False) -> Story:
    """The controller has recorded Done and starts again, and what follows is quicker than the next report."""
    s = begun().jobs(1, JOBS)
    report = s.arrive_report("Done")
    if refused:
        s.whole(report, 412)
    else:
        s.drop(report)
    return s.activate().index(done=True).tell()


def told_of_what_was_refused() -> Story:
    return ended_by_a_report_whose_answer_was_lost(refused=True)


def activated_where_it_was(late: bool = False) -> Story:
    """The shard moves when it was activated. late: before, and who lost it is activated all the same."""
    s = begun().jobs(1, JOBS).done()
    if not late:
        s.activate()
    s.pageserver = "pageserver_2"
    s.attach(2)
    s.pageserver = "pageserver_1"
    if late:
        s.activate()
    s.generation = 1
    return s.tell()


def activated_where_nobody_reads() -> Story:
    return activated_where_it_was(late=True)


def resumed_at_a_job_without_keys(empty: bool = True) -> Story:
    """The first job writes nothing, so the new attachment has no index to write for it."""
    s = begun().killed_and_resumed(None).checkpoint(1)
    layers = [None if empty else str(layer(1)), *(str(layer(job)) for job in range(2 - empty, JOBS + 1))]
    shards = {"0000": layers}
    return s.mark("reference", tenant_id=str(TENANT), timeline_id=str(TIMELINE), version=1, shards=shards)


def resumed_and_wrote_nothing() -> Story:
    return resumed_at_a_job_without_keys(empty=False)


# -- deletions


def late_before_the_deletion_was_over(written_by_itself: bool = False) -> Story:
    """An attachment that was given up writes when all is listed already, and is tidied up after later."""
    s = begun().jobs(1, 4)
    s.pageserver = "pageserver_2"
    s.attach(2)
    s.ask(4)
    s.index(deleted=True)
    s.delete()
    s.remove(range(1, 5), 1)
    if written_by_itself:
        key = f"{layer(5)}-00000002"
    else:
        s.pageserver, key = "pageserver_1", f"{layer(5)}-00000001"
    s.put(key)
    s.pageserver = "pageserver_2"
    s.bury()
    s.remove([], 2)
    s.delete(404)
    _delete(s, key)
    return s


def left_by_the_deletion_itself() -> Story:
    return late_before_the_deletion_was_over(written_by_itself=True)


def _delete(s: Story, name: str) -> None:
    request: Attributes = {"operation": "DeleteObject", "bucket": BUCKET, "key": s.key(name)}
    s.whole(s.arrive(EffectClass(s.pageserver, "s3", "delete"), Front.S3, request))


def created_again_and_deleted_badly() -> Story:
    s = begun().index(deleted=True).delete().remove([], 1).delete(404)
    s.create().index().ask().jobs(1, 4).index(deleted=True)
    return s.delete().remove(range(1, 4), 1).delete(404)


def late_while_its_tenant_was_deleted(by: str = "pageserver_1") -> Story:
    """An attachment that was given up writes when all is listed; the tenant is deleted once more."""
    s = begun().jobs(1, 4)
    s.location("Detached")
    s.pageserver = "pageserver_2"
    of = EffectClass("storage_controller", "pageserver_2", "delete", "tenant")
    request: Attributes = {"method": "DELETE", "path": f"/v1/tenant/{s.shard}"}
    deletion = s.arrive(of, Front.HTTP, request)
    s.remove(range(1, 5), 1)
    s.pageserver = by
    s.drop(_performed(s, s.arrive_put(f"{layer(5)}-00000001", SIZE)))
    s.whole(deletion)
    again = s.arrive(of, Front.HTTP, request)
    s.remove([5])
    return s.whole(again)


def _performed(s: Story, effect: int) -> int:
    s.perform(effect)
    return effect


def written_by_who_deletes_the_tenant() -> Story:
    return late_while_its_tenant_was_deleted(by="pageserver_2")


def forgets_that_it_deletes() -> Story:
    """Who starts next would import again what is to be deleted."""
    return begun().jobs(1, 4).index(deleted=True).delete().index()


def created_again(jobs: int = JOBS) -> Story:
    """A timeline of the same id, in the same generation. What the first one reported is not of it."""
    s = begun().jobs(1, JOBS).end().index(deleted=True).delete()
    s.remove(range(1, JOBS + 1), 1).delete(404)
    s._index.clear()
    s.create().index().ask().jobs(1, jobs).mark("settled")
    return s.end() if jobs == JOBS else s.activate().tell()


def told_by_what_the_first_one_was() -> Story:
    """It is not Done, but the timeline that had its id was."""
    return created_again(jobs=4)


def nobody_tells_of_the_second_one() -> Story:
    s = created_again()
    while (line := s.lines.pop()) and "import_complete" not in getattr(line, "name", ""):
        pass
    return s


def deleted_as_it_was_told_before(again: bool = True) -> Story:
    """What it has written since nobody has called valid, unless it asks again."""
    s = begun().jobs(1, 4).validate().jobs(5, 8)
    if again:
        s.validate()
    return s.remove([5])


def deleted_on_an_old_word() -> Story:
    return deleted_as_it_was_told_before(again=False)


# -- what is where


def in_parts(size: int = 333) -> Story:
    """The request that ends an upload in parts has a size of its own."""
    s = begun().jobs(1, 3)
    of = EffectClass(s.pageserver, "s3", "put", "layer")
    key = s.key(f"{layer(4)}-00000001")
    request: Attributes = {
        "operation": "CompleteMultipartUpload",
        "bucket": BUCKET,
        "key": key,
        "size": size,
    }
    s.whole(s.arrive(of, Front.S3, request))
    return s.index([1, 2, 3, 4]).checkpoint(4).jobs(5, JOBS).end()


def smaller_than_its_index_says() -> Story:
    return begun().jobs(1, 3).put_layer(4, SIZE - 1).index([1, 2, 3, 4])


def below_a_folder_of_that_name() -> Story:
    """The bucket's prefix itself has a `pgdata/` in it."""
    s = Story(source="backups/pgdata/monday").begin()
    return s.jobs(1, 4).kill().re_attach(2).ask(4).read(3).jobs(5, JOBS).end()


def a_folder_whose_name_ends_so() -> Story:
    s = Story(source="mypgdata/monday").begin()
    return s.jobs(1, 4).kill().re_attach(2).ask(4).read(3).jobs(5, JOBS).end()


HEALTHY: list[tuple[str, Callable[[], Story]]] = [
    ("I11", refused_each_in_its_own_source),
    ("I1", imported_again_after_a_change),
    ("I5", another_import_reads_what_this_one_has_done),
    ("I13", another_import_of_the_source_came_back),
    ("I13", a_shard_takes_its_time_to_go),
    ("I13", another_import_reads_after_a_deletion),
    ("I13", many_reads_were_under_way),
    ("I4", told_of_its_generation_before_it_has_the_answer),
    ("I13", attached_by_what_a_detach_has_overtaken),
    ("I5", asked_by_an_old_one_and_answered_late),
    ("I3", asked_by_an_old_one_and_answered_late),
    ("I5", recorded_as_it_hears_when_it_asks),
    ("I5", further_ahead_than_it_knows),
    ("I7", ended_by_a_report_whose_answer_was_lost),
    ("I7", activated_where_it_was),
    ("I2", resumed_at_a_job_without_keys),
    ("I9", late_before_the_deletion_was_over),
    ("I9", late_while_its_tenant_was_deleted),
    *((f"I{number}", created_again) for number in range(1, 14)),
    ("I4", deleted_as_it_was_told_before),
    ("I2", in_parts),
]

LIES: list[tuple[str, Callable[[], Story], str]] = [
    ("I11", refused_while_another_import_begins, "was refused base/5/16384 10 times"),
    ("I11", refused_as_often_as_two_that_were_there, "was refused base/5/16384 10 times"),
    ("I1", changed_while_another_import_was_there, "was first before, then after, and success was told"),
    ("I5", read_again_beside_another_import, "read again for job 3"),
    ("I13", reads_after_a_detach, "read 20 times from its bucket"),
    ("I13", both_shards_are_gone, "read 20 times from its bucket"),
    ("I13", reads_after_a_deletion, "had accepted to delete the import, and then read 20 times"),
    ("I4", given_again_what_it_may_have_been_told, "in generation 2, which had been given out before"),
    ("I4", given_again_what_an_answer_was_lost_of, "in generation 2, which had been given out before"),
    ("I13", works_though_the_detach_came_last, "is Detached, and then came"),
    ("I3", forgets_what_its_own_generation_has_told, "was answered completed = 4, after completed = 8"),
    ("I5", given_up_and_not_recorded, "gave up completed = 4"),
    ("I7", told_of_what_was_refused, "was not Done"),
    ("I7", activated_where_nobody_reads, "was not activated"),
    ("I2", resumed_and_wrote_nothing, "has no index of that generation"),
    ("I9", left_by_the_deletion_itself, "is left (1 objects)"),
    ("I9", created_again_and_deleted_badly, "is left (1 objects)"),
    ("I9", written_by_who_deletes_the_tenant, "is left (1 objects)"),
    ("I13", forgets_that_it_deletes, "had accepted to delete the timeline"),
    ("I7", told_by_what_the_first_one_was, "was not Done"),
    ("I7", nobody_tells_of_the_second_one, "nobody has told it"),
    ("I4", deleted_on_an_old_word, "nobody had been told that its generation was valid"),
    ("I2", smaller_than_its_index_says, f"has {SIZE - 1} of {SIZE} bytes"),
    ("I5", below_a_folder_of_that_name, "read again for job 3"),
    ("I5", a_folder_whose_name_ends_so, "read again for job 3"),
]


@pytest.mark.parametrize(("invariant", "story"), HEALTHY, ids=lambda value: getattr(value, "__name__", value))
def test_nobody_is_blamed_for_another(invariant: str, story: Callable[[], Story]) -> None:
    assert not failures(story(), invariant)


@pytest.mark.parametrize(
    ("invariant", "story", "sentence"), LIES, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_lie_is_caught_beside_others(invariant: str, story: Callable[[], Story], sentence: str) -> None:
    said = failures(story(), invariant)
    assert any(sentence in one for one in said), said


def test_it_is_said_of_which_reads_nobody_can_say_whose_they_are() -> None:
    """I5: what was not seen is not called right."""
    judgement = judge(with_reference(another_import_reads_what_this_one_has_done()))
    said = [one.sentence for one in judgement if one.number in ("I5", "I12")]
    assert len(said) == 2 and all("reads nobody can say for which of several imports" in one for one in said)
