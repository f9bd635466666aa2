"""Which layers belong to which job is learnt from a run, and only from one that says it."""

from __future__ import annotations

import pytest

from reattach.api.history import History
from reattach.api.ids import UNSHARDED
from reattach.fixtures.judge.neon.reference import CannotLearn, Reference, learn
from test_runner.unit.judge.story import JOBS, REL, Story, layer, reference_run, uninterrupted


def test_each_job_has_its_layer() -> None:
    jobs = learn(reference_run().history()).shards[UNSHARDED]
    assert jobs.layers == tuple(map(layer, range(1, JOBS + 1)))
    assert [jobs.job_of(layer(job)) for job in range(1, JOBS + 1)] == list(range(1, JOBS + 1))
    assert [jobs.job_at(REL.block(64 * job - 1)) for job in (1, 2, JOBS)] == [1, 2, JOBS]


def test_it_is_read_back() -> None:
    learnt = learn(reference_run().history())
    assert Reference.read(learnt.facts()) == learnt


@pytest.mark.parametrize(
    "facts", [[], {"version": 1}, {"version": 2, "shards": {}}, {"version": 1, "shards": {"0000": ["x"]}}]
)
def test_what_is_no_reference_is_refused(facts: object) -> None:
    with pytest.raises(CannotLearn):
        Reference.read(facts)


def without(job: int) -> History:
    """A run that loses the layer of one job."""
    story = Story().begin()
    for number in range(1, JOBS + 1):
        story.put_layer(number)
        story.index([number] if number != job else [])
        story.checkpoint(number)
    return story.end().history()


@pytest.mark.parametrize(
    ("history", "why"),
    [
        (uninterrupted().history(), "has not recorded each of its 12 jobs"),
        (Story().begin().jobs(1, 4).history(), "shard 0000 is not Done"),
        (Story().history(), "this history has 0"),
        (without(5), "no layer covers the keys from"),
        (without(JOBS), "no layer covers the keys from"),
    ],
)
def test_a_run_that_does_not_say_it_is_refused(history: History, why: str) -> None:
    with pytest.raises(CannotLearn, match=why):
        learn(history)


def test_an_index_that_is_late_teaches_nothing() -> None:
    story = Story().begin()
    for job in range(1, JOBS + 1):
        story.put_layer(job)
        story.checkpoint(job)
        story.index([job])
    with pytest.raises(CannotLearn, match="does not name the layer of job 1"):
        learn(story.end().history())


def test_a_first_job_without_keys_has_no_layer() -> None:
    """A limit below a page makes a first job of nothing."""
    story = Story().begin()
    for job in range(1, JOBS + 1):
        story.put_layer(job)
        story.index([job])
        story.checkpoint(job + 1, jobs=JOBS + 1)
    # Job 1 was recorded, too.
    at = next(i for i, line in enumerate(story.lines) if "post timeline_import_status #1" in repr(line))
    tail, story.lines = story.lines[at:], story.lines[:at]
    story._effect += 100
    story.checkpoint(1, jobs=JOBS + 1)
    story.lines += tail
    layers = learn(story.end().history()).shards[UNSHARDED].layers
    assert layers == (None, *map(layer, range(1, JOBS + 1)))
