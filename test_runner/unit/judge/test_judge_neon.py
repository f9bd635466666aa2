"""The judge of imports: for each invariant histories that break it, and healthy twins that do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reattach.api.history import Answered
from reattach.api.ids import TenantId, TenantShardId
from reattach.fixtures.judge.neon.judge import judge
from reattach.fixtures.judge.verdict import Outcome
from test_runner.unit.judge.story import (
    JOBS,
    SIZE,
    TENANT,
    THRESHOLD,
    Story,
    interrupted,
    layer,
    reference_run,
    uninterrupted,
    with_reference,
)


def failures(story: Story) -> list[str]:
    return [str(one) for one in judge(story.history()).failures]


def begun() -> Story:
    return Story().begin()


def resumed() -> Story:
    """Killed when jobs 1 to 6 were written and 4 recorded; the new attachment has asked."""
    return begun().jobs(1, 6).killed_and_resumed(4)


def two_shards(second_on: str = "pageserver_2") -> tuple[Story, Story]:
    """Both shards of an import in one history, each with its generation and index."""
    one = Story(TenantShardId(TENANT, 0, 2))
    two = Story(TenantShardId(TENANT, 1, 2), pageserver=second_on)
    two.lines = one.lines
    two._counts = one._counts
    one.begin()
    two._effect = 1000
    two.begin()
    return one, two


# -- I1


def two_objects_under_one_name() -> Story:
    """The bucket changed while nobody looked, and nobody has noticed."""
    s = begun()
    s.read(1, etag="before")
    s.jobs(1, 6).killed_and_resumed(4)
    s.read(5, etag="after")
    return s.jobs(5, JOBS).end()


# -- I2


def checkpoint_before_the_index() -> Story:
    return begun().jobs(1, 3).put_layer(4).checkpoint(4).index([1, 2, 3, 4]).jobs(5, JOBS).end()


def checkpoint_arrives_before_the_index() -> Story:
    """The order of the answers is right, that of the requests is not."""
    s = begun().jobs(1, 3)
    s.put_layer(4)
    effect = s.reports(4)
    s.index([1, 2, 3, 4])
    s.whole(effect)
    return s.jobs(5, JOBS).end()


def done_before_the_last_layers() -> Story:
    s = begun().jobs(1, JOBS - 1)
    s.read(JOBS)
    s.done()
    s.put_layer(JOBS)
    s.index(range(JOBS - 3, JOBS + 1))
    s.activate()
    s.index(done=True)
    s.tell()
    return s


def index_before_its_layer() -> Story:
    return begun().jobs(1, 3).index([1, 2, 3, 4]).put_layer(4).checkpoint(4).jobs(5, JOBS).end()


def index_arrives_before_its_layer_is_there() -> Story:
    """Both are under way at once, and the layer's comes to its end second."""
    s = begun().jobs(1, 3)
    late = s.arrive_put(f"{layer(4)}-00000001", SIZE)
    s.index([1, 2, 3, 4])
    s.whole(late)
    s.checkpoint(4)
    return s.jobs(5, JOBS).end()


def layer_deleted_before_the_index_forgets_it() -> Story:
    return resumed().validate().remove([2])


def index_without_a_layer_of_the_checkpoint() -> Story:
    s = begun()
    for job in range(1, 5):
        s.put_layer(job)
    s.index([1, 2, 4])
    s.checkpoint(4)
    return s


def layer_of_another_size() -> Story:
    return begun().jobs(1, 3).put_layer(4, SIZE - 1).index([1, 2, 3, 4])


def no_index_of_its_generation() -> Story:
    s = resumed()
    for job in range(5, 9):
        s.put_layer(job)
    s.checkpoint(8)
    return s


# -- I3


def completed_falls() -> Story:
    return begun().jobs(1, 8).checkpoint(4)


def controller_forgets() -> Story:
    return begun().jobs(1, 8).killed_and_resumed(4)


def another_plan() -> Story:
    return begun().jobs(1, 8).written(9, 12).checkpoint(12, import_plan_hash=78)


# -- I4


def stale_report_accepted() -> Story:
    s = begun().jobs(1, 4)
    s.kill()
    s.re_attach(2)
    s.generation = 1
    s.jobs(5, 8)
    return s


def recorded_after_the_next_has_asked(told: int = 4) -> Story:
    """The report of jobs 5 to 8 is under way when its sender dies. told: what the next attachment hears."""
    s = begun().jobs(1, 4)
    s.written(5, 8)
    report = s.reports(8)
    s.kill()
    s.re_attach(2)
    if told == 8:
        s.perform(report)
    s.ask(told)
    if told == 4:
        s.perform(report)
    s.drop(report)
    return s.jobs(told + 1, JOBS).end()


def stale_called_valid() -> Story:
    return resumed().validate(generation=1)


def started_again_in_the_same_generation() -> Story:
    return begun().jobs(1, 4).kill().re_attach(1)


def deleted_unasked() -> Story:
    return resumed().jobs(5, 8).remove([5])


# -- I5


def job_read_again() -> Story:
    return resumed().read(4).jobs(5, JOBS).end()


def job_written_again() -> Story:
    return resumed().put_layer(3).jobs(5, JOBS).end()


def remembered_status() -> Story:
    """A second attachment goes on without asking."""
    return begun().jobs(1, 4).kill().re_attach(2).jobs(5, 8)


def too_far_ahead() -> Story:
    """Nothing recorded: the fourth job can be taken, the twelfth started, and no more."""
    s = begun()
    s.settings(window=4)
    for job in range(1, 10):
        s.read(job)
    return s


def window_grows_after_a_resume() -> Story:
    s = begun()
    s.settings(window=3)
    s.jobs(1, 4).killed_and_resumed(4)
    for job in range(5, 13):
        s.read(job)
    return s


def checkpoint_given_up() -> Story:
    return begun().written(1, 4).checkpoint(4, status=503).jobs(5, JOBS).end()


def checkpoint_given_up_when_it_was_lost() -> Story:
    s = begun().written(1, 4)
    s.drop(s.reports(4))
    return s.jobs(5, JOBS).end()


# -- I6


def error_after_done() -> Story:
    return uninterrupted().error()


def done_forgotten() -> Story:
    return begun().jobs(1, JOBS).done().killed_and_resumed(JOBS)


# -- I7


def told_before_activation() -> Story:
    return begun().jobs(1, JOBS).done().tell()


def told_before_done() -> Story:
    return begun().jobs(1, JOBS).activate().tell()


def activation_refused() -> Story:
    return begun().jobs(1, JOBS).done().activate(status=503).tell()


def told_success_though_one_shard_failed() -> Story:
    one, two = two_shards()
    one.jobs(1, JOBS)
    one.done()
    one.activate()
    two.error()
    two.activate()
    one._effect = two._effect
    one.tell()
    return one


def told_success_though_one_shard_goes_on() -> Story:
    one, _ = two_shards()
    one._effect = 2000
    one.jobs(1, JOBS)
    one.done()
    one.activate()
    one.tell()
    return one


def told_an_error_that_nobody_has() -> Story:
    return begun().jobs(1, JOBS).done().activate().tell("it did not work")


def told_of_a_deleted_one() -> Story:
    return begun().jobs(1, JOBS).done().activate().delete().tell()


def nobody_told() -> Story:
    return begun().jobs(1, JOBS).done().activate().mark("gave-up", after=60)


def told_by_the_dead() -> Story:
    """The control plane has answered, and who had called it was gone."""
    s = begun().jobs(1, JOBS)
    s.done()
    s.activate()
    s.tell()
    answer = s.lines.pop()
    assert isinstance(answer, Answered)
    s.drop(answer.effect)
    s.mark("settled")
    return s


def told_twice() -> Story:
    return uninterrupted().tell()


# -- I8


def job_left_out_after_a_resume() -> Story:
    """Its layer is there, from the attachment before, and is trusted."""
    return resumed().read(6).jobs(6, JOBS).end()


# -- I9


def something_left_after_a_deletion() -> Story:
    return begun().jobs(1, 4).index(deleted=True).delete().remove(range(1, 4), 1).delete(404)


def something_comes_after_a_deletion() -> Story:
    s = begun().jobs(1, 4)
    s.index(deleted=True)
    s.delete()
    s.remove(range(1, 5), 1)
    s.delete(404)
    s.pageserver, s.generation = "pageserver_2", 2
    s.index()
    return s


def late_and_left(*, removed: bool = False) -> Story:
    """Its shard moved while it stood still, and the timeline was deleted there."""
    s = begun().jobs(1, 4)
    s.pageserver = "pageserver_2"
    s.attach(2)
    s.ask(4)
    s.bury()
    s.index(deleted=True)
    s.delete()
    s.remove(range(1, 5), 1, 2)
    s.delete(404)
    s.pageserver, s.generation = "pageserver_1", 1
    s.put_layer(5)
    s.index([5])
    if removed:
        s.location("Detached")
        s.remove([5], 1)
    s.mark("settled")
    return s


def leftovers() -> Story:
    return interrupted().mark("settled")


# -- I10


def never_ends() -> Story:
    s = begun().jobs(1, 8)
    for _ in range(5):
        s.checkpoint(12, status=412)
    s.mark("gave-up", after=60)
    return s


def retries_without_end() -> Story:
    s = begun().jobs(1, 8)
    for _ in range(40):
        s.checkpoint(12, status=412)
    return s


# -- I13


def works_after_a_detach() -> Story:
    return begun().jobs(1, 4).location("Detached").put_layer(5)


def works_after_a_test_has_detached_it() -> Story:
    s = begun().jobs(1, 4)
    s.mark("detached", pageserver=s.pageserver, shard=str(s.shard))
    s.put_layer(5)
    return s


def index_after_a_detach() -> Story:
    return begun().jobs(1, 4).location("Detached").index()


def reports_after_a_detach() -> Story:
    return begun().jobs(1, 4).location("Detached").checkpoint(8, status=412)


def reads_after_a_detach() -> Story:
    s = begun().jobs(1, 4)
    s.location("Detached")
    for _ in range(5):
        for job in range(5, 9):
            s.read(job)
    return s


def old_attachment_goes_on_beside_the_new_one() -> Story:
    s = begun().jobs(1, 4)
    s.attach(2)
    s.ask(4)
    s.generation = 1
    s.put_layer(5)
    return s


def works_after_a_deletion_was_accepted() -> Story:
    return begun().jobs(1, 4).index(deleted=True).delete().put_layer(5)


def a_dead_one_acts() -> Story:
    s = begun().jobs(1, 4)
    s.kill()
    s.incarnation = 1
    s.put_layer(5)
    return s


# -- I11


def refused_for_ever() -> Story:
    s = begun()
    for _ in range(25):
        s.read(1, status=403)
    return s


# -- I12


def more_jobs_at_a_time_than_may_run() -> Story:
    s = begun()
    s.settings(concurrency=2)
    for job in (1, 2, 3):
        s.read(job, blocks=32)
    for job in (1, 2, 3):
        s.read(job, blocks=32)
        s.put_layer(job)
    return s


def everything_in_one_read() -> Story:
    s = begun()
    s.read(1, blocks=65)
    return s


LIES: list[tuple[str, Callable[[], Story], str]] = [
    (
        "I1",
        two_objects_under_one_name,
        "base/5/16384 was first before, then after, and success was told",
    ),
    ("I2", checkpoint_before_the_index, "does not name the layer of job"),
    ("I2", checkpoint_arrives_before_the_index, "does not name the layer of job"),
    ("I2", done_before_the_last_layers, "does not name the layer of job"),
    ("I2", index_before_its_layer, "named what is not there"),
    ("I2", index_arrives_before_its_layer_is_there, "named what is not there"),
    ("I2", layer_deleted_before_the_index_forgets_it, "was deleted, the index of generation 1 named"),
    ("I2", index_without_a_layer_of_the_checkpoint, "does not name the layer of job 3"),
    ("I2", layer_of_another_size, f"has {SIZE - 1} of {SIZE} bytes"),
    ("I2", no_index_of_its_generation, "has no index of that generation"),
    ("I3", completed_falls, "completed = 4 was acknowledged in generation 1 after completed = 8"),
    ("I3", controller_forgets, "was answered completed = 4, after completed = 8"),
    ("I3", another_plan, "with another plan"),
    ("I4", stale_report_accepted, "accepted after generation 2 had been given out"),
    ("I4", recorded_after_the_next_has_asked, "after generation 2 had been told completed = 4"),
    ("I4", stale_called_valid, "accepted after generation 2 had been given out"),
    ("I4", started_again_in_the_same_generation, "in generation 1, which had been given out before"),
    ("I4", deleted_unasked, "nobody had been told that its generation was valid"),
    ("I5", job_read_again, "read again for job 4, and completed = 4 was recorded"),
    ("I5", job_written_again, "wrote the layer of job 3"),
    ("I5", remembered_status, "had not asked what was recorded"),
    ("I5", too_far_ahead, "had started job 9 when completed = 0 was recorded, expected none beyond job 8"),
    ("I5", window_grows_after_a_resume, "had started job 12 when completed = 4"),
    ("I5", checkpoint_given_up, "gave up completed = 4"),
    ("I5", checkpoint_given_up_when_it_was_lost, "gave up completed = 4"),
    ("I6", error_after_done, "Error('bad block') was acknowledged after Done"),
    ("I6", done_forgotten, "was answered after Done"),
    ("I7", told_before_activation, "shard 0000 was not activated"),
    ("I7", told_before_done, "shard 0000 was not Done"),
    ("I7", activation_refused, "shard 0000 was not activated"),
    ("I7", told_success_though_one_shard_failed, "shard 0102 had ended with an error"),
    ("I7", told_success_though_one_shard_goes_on, "shard 0102 was not Done"),
    ("I7", told_an_error_that_nobody_has, "no shard has reported one"),
    ("I7", told_of_a_deleted_one, "after its deletion had begun"),
    ("I7", nobody_told, "nobody has told it"),
    ("I7", told_by_the_dead, "nobody who told it has heard the answer"),
    ("I7", told_twice, "by who had heard that it knows"),
    ("I8", job_left_out_after_a_resume, "jobs 5 of 12 never ran after it resumed from 4"),
    ("I9", something_left_after_a_deletion, "is left (1 objects)"),
    ("I9", something_comes_after_a_deletion, "was written by pageserver_2 after shard 0000 was deleted"),
    ("I9", late_and_left, "was written by pageserver_1 after shard 0000 was deleted"),
    ("I9", leftovers, "nothing names"),
    ("I10", never_ends, "failed 5 times since then"),
    ("I10", retries_without_end, "failed 40 times, and nothing else came of it"),
    (
        "I11",
        refused_for_ever,
        "was refused base/5/16384 10 times, the last time with status 403, and went on",
    ),
    ("I12", more_jobs_at_a_time_than_may_run, "read for 3 jobs at a time, one of them job 3, expected 2"),
    (
        "I12",
        everything_in_one_read,
        f"read {65 * 8192} bytes at once for job 1, expected {64 * 8192} at most",
    ),
    ("I13", works_after_a_detach, "is Detached, and then came 'pageserver_1 > s3: put"),
    ("I13", works_after_a_test_has_detached_it, "is Detached, and then came 'pageserver_1 > s3: put"),
    ("I13", index_after_a_detach, "is Detached, and then came 'pageserver_1 > s3: put index_part.json'"),
    ("I13", reports_after_a_detach, "and then came 'pageserver_1 > storage_controller: post"),
    ("I13", reads_after_a_detach, "read 20 times from its bucket"),
    ("I13", old_attachment_goes_on_beside_the_new_one, "in generation 2, and then came"),
    ("I13", works_after_a_deletion_was_accepted, "had accepted to delete the timeline"),
    ("I13", a_dead_one_acts, "(its start 1) had ended, and then came"),
]


@pytest.mark.parametrize(
    ("invariant", "story", "sentence"), LIES, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_lie_is_caught(invariant: str, story: Callable[[], Story], sentence: str) -> None:
    """The verdict names the invariant, says what was wrong, and shows effects of this history."""
    judgement = judge(with_reference(story()))
    said = [one for one in judgement.failures if one.number == invariant and sentence in one.sentence]
    assert said, judgement.report()
    assert judgement.outcome is Outcome.FAIL


def test_a_layer_of_no_job_is_noticed() -> None:
    """I1: what an attachment writes beside its plan."""
    s = begun().jobs(1, 4)
    s.put(f"{layer(5).key_range.start}-{layer(6).key_range.end}__0000000001500028-00000001")
    s.jobs(5, JOBS).end()
    assert any("the layer of no job" in one for one in failures(s))


# -- healthy ones


def refused_a_few_times_by_each_attachment() -> Story:
    s = begun()
    for attachment in range(1, 7):
        for _ in range(4):
            s.read(1, status=403)
        s.kill()
        s.re_attach(1 + attachment)
        s.ask()
    return s.jobs(1, JOBS).end()


def two_jobs_at_a_time() -> Story:
    s = begun()
    s.settings(concurrency=2)
    for job in range(1, JOBS, THRESHOLD):
        s.read(job + 1, blocks=32)
        s.jobs(job, job + THRESHOLD - 1)
    return s.end()


def every_answer_lost_once() -> Story:
    """The controller has taken the report, and it is told again."""
    s = begun().written(1, 4)
    effect = s.reports(4)
    s.perform(effect)
    s.drop(effect)
    s.checkpoint(4)
    return s.jobs(5, JOBS).end()


def controller_away_for_a_moment() -> Story:
    s = begun().written(1, 4)
    s.checkpoint(4, status=503)
    s.drop(s.reports(4))
    s.checkpoint(4)
    return s.jobs(5, JOBS).end()


def recorded_before_the_next_has_asked() -> Story:
    """A report is recorded though its sender is dead by then, and the next one hears of it."""
    return recorded_after_the_next_has_asked(8)


def stale_one_refused() -> Story:
    """It may go on working under its old generation, and nobody listens."""
    s = begun().jobs(1, 4)
    old = s.pageserver
    s.pageserver, s.incarnation = "pageserver_2", 1
    s.attach(2)
    s.ask(4)
    s.pageserver, s.generation = old, 1
    for job in range(5, 9):
        s.read(job)
        s.put_layer(job)
    s.checkpoint(8, status=412)
    s.validate(valid=False)
    s.pageserver, s.generation = "pageserver_2", 2
    return s.jobs(5, JOBS).end()


def detached_and_attached() -> Story:
    return begun().jobs(1, 6).location("Detached").attach(2).ask(4).jobs(5, JOBS).end()


def detached_while_another_shard_is_back() -> Story:
    """The pageserver takes its time with one, and reads for another that is attached again meanwhile."""
    one, two = two_shards(second_on="pageserver_1")
    one.jobs(1, 4)
    two.jobs(1, 4)
    one.location("Detached")
    two._effect = 2000
    detached = two.arrive_location("Detached")
    one._effect = 3000
    one.attach(2)
    one.ask(4)
    two.perform(detached)
    two.answer(detached)
    for _ in range(3):
        for job in range(5, JOBS + 1):
            one.read(job)
    one.jobs(5, JOBS)
    one.done()
    two.attach(2)
    two.ask(4)
    two.jobs(5, JOBS)
    two.done()
    one._effect = 4000
    one.activate()
    two.activate()
    one.tell()
    return one


def detached_by_a_test_after_another_shard_came_unseen() -> Story:
    return _detached_by_a_test_beside("pageserver_2")


def detached_by_a_test_after_another_shard_was_attached_unseen() -> Story:
    return _detached_by_a_test_beside("pageserver_1")


def _detached_by_a_test_beside(second_on: str) -> Story:
    """The other shard is on pageserver_1 afterwards, as nobody but its question shows."""
    one, two = two_shards(second_on)
    one.jobs(1, 4)
    two.jobs(1, 4)
    for s in (one, two):
        s.mark("detached", pageserver=s.pageserver, shard=str(s.shard))
    two._effect = 2000
    two.generation, two.pageserver = 2, "pageserver_1"
    two.ask(4)
    one.mark("detached", pageserver=one.pageserver, shard=str(one.shard))
    for _ in range(3):
        for job in range(5, JOBS + 1):
            two.read(job)
    two.jobs(5, JOBS)
    two.done()
    one._effect = 3000
    one.attach(2)
    one.ask(4)
    one.jobs(5, JOBS)
    one.done()
    one.activate()
    two._effect = 4000
    two.activate()
    two.tell()
    return one


def detached_by_a_test_and_attached_unseen() -> Story:
    s = begun().jobs(1, 6)
    s.mark("detached", pageserver=s.pageserver, shard=str(s.shard))
    s.generation = 2
    s.ask(4)
    for _ in range(5):
        for job in range(5, 9):
            s.read(job)
    return s.jobs(5, JOBS).end()


def resumed_after_the_last_checkpoint() -> Story:
    """Nothing is left to do but to say so; there is no index of the new generation."""
    return begun().jobs(1, JOBS).killed_and_resumed(JOBS).end()


def nothing_recorded_yet() -> Story:
    return begun().jobs(1, 3).killed_and_resumed(None).jobs(1, JOBS).end()


def deleted() -> Story:
    s = begun().jobs(1, 4)
    s.index(deleted=True)
    s.delete()
    s.remove(range(1, 5), 1)
    s.delete(404)
    s.mark("settled")
    return s


def old_layers_cleaned_up() -> Story:
    return resumed().jobs(5, JOBS).validate().remove((5, 6)).end().remove([], 1).mark("settled")


def late_after_a_deletion_and_gone() -> Story:
    return late_and_left(removed=True)


def too_late_and_cleaned_up() -> Story:
    """Its shard moved while it stood still. It goes on, is told to detach, and removes what nobody needs."""
    s = begun().jobs(1, 6)
    s.pageserver = "pageserver_2"
    s.attach(2)
    s.ask(4)
    s.jobs(5, JOBS).end()
    s.pageserver, s.generation = "pageserver_1", 1
    s.put_layer(7)
    s.location("Detached")
    s.remove((5, 6, 7), 1)
    s.mark("settled")
    return s


def an_error_told() -> Story:
    return begun().jobs(1, 4).error().tell('{"0000": "bad block"}')


def both_shards_done() -> Story:
    one, two = two_shards()
    one.jobs(1, JOBS)
    one.done()
    two.jobs(1, JOBS)
    two.done()
    one.activate()
    two.activate()
    one._effect = 2000
    one.tell()
    return one


def told_again_after_a_crash() -> Story:
    """The control plane has answered to a dead one; the next one tells it again."""
    s = begun().jobs(1, JOBS)
    s.done()
    s.activate()
    s.tell()
    answer = s.lines.pop()
    assert isinstance(answer, Answered)
    s.drop(answer.effect)
    s.activate()
    s.tell()
    s.mark("settled")
    return s


def gone_while_its_last_request_was_under_way() -> Story:
    """What was sent before the detach arrives after it; nobody stays for the answer."""
    s = begun().jobs(1, 4)
    s.location("Detached")
    s.drop(s.arrive_put(f"{layer(5)}-00000001", SIZE))
    s.attach(2)
    s.ask(4)
    return s.jobs(5, JOBS).end()


HEALTHY = [
    uninterrupted,
    interrupted,
    reference_run,
    every_answer_lost_once,
    controller_away_for_a_moment,
    recorded_before_the_next_has_asked,
    stale_one_refused,
    detached_and_attached,
    detached_while_another_shard_is_back,
    detached_by_a_test_after_another_shard_was_attached_unseen,
    detached_by_a_test_after_another_shard_came_unseen,
    detached_by_a_test_and_attached_unseen,
    resumed_after_the_last_checkpoint,
    nothing_recorded_yet,
    refused_a_few_times_by_each_attachment,
    two_jobs_at_a_time,
    deleted,
    old_layers_cleaned_up,
    too_late_and_cleaned_up,
    late_after_a_deletion_and_gone,
    an_error_told,
    both_shards_done,
    told_again_after_a_crash,
    gone_while_its_last_request_was_under_way,
]


@pytest.mark.parametrize("story", HEALTHY)
def test_nothing_is_wrong_if_nothing_is_wrong(story: Callable[[], Story]) -> None:
    judgement = judge(with_reference(story()))
    assert judgement.outcome is Outcome.PASS, judgement.report()


# -- two imports of one source


def two_imports() -> tuple[Story, Story]:
    one = begun().jobs(1, 4)
    other = Story(TenantShardId.unsharded(TenantId("cc" * 16)), lines=one.lines, _counts=one._counts)
    other._effect = one._effect
    return one, other.begin()


def test_a_detached_import_is_not_blamed_for_what_another_one_of_its_source_reads() -> None:
    one, other = two_imports()
    other.location("Detached")
    for _ in range(20):
        one.read(5)
    assert not [said for said in failures(one) if said.startswith("I13")]
    one._effect = other._effect
    one.location("Detached")
    for _ in range(20):
        one.read(5)
    assert any("read 20 times from its bucket" in said for said in failures(one))


def test_a_whole_object_is_read_for_the_plan() -> None:
    s = resumed().read(1, whole=True).jobs(5, JOBS).end()
    assert failures(s) == []


def test_two_imports_of_one_source_may_be_refused_as_often_as_two() -> None:
    """I11: each of them has ten tries."""
    _, other = two_imports()
    for _ in range(19):
        other.read(5, status=403)
    assert not [one for one in failures(other) if one.startswith("I11")]
    other.read(5, status=403)
    assert any("was refused base/5/16384 20 times" in one for one in failures(other))


# -- what cannot be seen


def test_what_is_hidden_is_unknown() -> None:
    s = uninterrupted()
    s.mark("hidden", channel="remote storage", why="it is a local directory")
    judgement = judge(s.history())
    unknown = {verdict.number for verdict in judgement.of(Outcome.UNKNOWN)}
    assert unknown == {"I1", "I2", "I4", "I5", "I8", "I9", "I13"}
    assert judgement.outcome is Outcome.UNKNOWN


def test_a_channel_without_effects_is_unknown() -> None:
    s = uninterrupted()
    s.lines = [line for line in s.lines if "s3" not in getattr(line, "name", "")]
    assert not judge(s.history()).failures
    assert {"I2", "I5", "I8"} <= {v.number for v in judge(s.history()).of(Outcome.UNKNOWN)}


def test_no_import_is_unknown() -> None:
    assert judge(Story().history()).outcome is Outcome.UNKNOWN


def test_jobs_that_nobody_knows_are_unknown() -> None:
    """An import that has not ended, without a reference run: how far its reads run ahead is not known."""
    s = begun().jobs(1, 4)
    s.read(9)
    (verdict,) = [v for v in judge(s.history()) if v.number == "I5"]
    assert verdict.outcome is Outcome.UNKNOWN
    assert "1 reads are of jobs that nobody knows" in verdict.sentence


def test_what_can_be_seen_is_judged_however_much_is_hidden() -> None:
    s = completed_falls()
    s.mark("hidden", channel="remote storage", why="it is a local directory")
    assert [one.number for one in judge(s.history()).failures] == ["I3"]
