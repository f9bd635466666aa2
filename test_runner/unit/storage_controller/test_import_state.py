"""What an import's status may become, and what its shards say together."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.ids import ShardIndex
from reattach.api.import_status import Done, Error, InProgress, ShardImportProgress, ShardImportStatus
from reattach.storage_controller.core import import_state
from reattach.storage_controller.core.import_state import Transition, transition

plans = st.builds(
    lambda jobs, plan, limit: (jobs, plan, limit),
    st.integers(1, 3),
    st.sampled_from([0, 2**64 - 1]),
    st.sampled_from([512, 1024]),
)
progresses = st.builds(
    lambda plan, completed: ShardImportProgress(plan[0], completed, plan[1], plan[2]),
    plans,
    st.integers(-1, 4),
)
statuses = st.one_of(
    st.builds(InProgress, st.none() | progresses), st.builds(Done), st.builds(Error, st.sampled_from("ab"))
)


def at(completed: int, jobs: int = 10, plan: int = 1, limit: int = 2) -> InProgress:
    return InProgress(ShardImportProgress(jobs, completed, plan, limit))


@given(st.lists(statuses, max_size=12))
def test_whatever_is_reported_only_moves_forward(reports: list[ShardImportStatus]) -> None:
    """I3: completed never falls and the plan never changes. I6: the end is the end."""
    recorded: ShardImportStatus = InProgress(None)
    for report in reports:
        before = recorded
        if transition(recorded, report) is Transition.STORE:
            recorded = report
        if before.is_terminal:
            assert recorded == before
        elif isinstance(before, InProgress) and before.progress and isinstance(recorded, InProgress):
            assert recorded.progress is not None
            assert recorded.progress.completed >= before.progress.completed
            assert recorded.progress.jobs == before.progress.jobs
            assert recorded.progress.import_plan_hash == before.progress.import_plan_hash
            assert recorded.progress.job_soft_size_limit == before.progress.job_soft_size_limit


@pytest.mark.parametrize(
    ("recorded", "reported", "expected"),
    [
        (InProgress(None), at(4), Transition.STORE),
        (InProgress(None), Done(), Transition.STORE),
        (InProgress(None), InProgress(None), Transition.UNCHANGED),
        (at(4), at(8), Transition.STORE),
        (at(4), at(4), Transition.UNCHANGED),
        (at(8), at(4), Transition.OUTDATED),
        (at(4), InProgress(None), Transition.OUTDATED),
        (at(4), at(8, jobs=11), Transition.REJECT_PLAN),
        (at(4), at(8, plan=9), Transition.REJECT_PLAN),
        (at(4), at(8, limit=9), Transition.REJECT_PLAN),
        (at(4), at(11), Transition.REJECT_MALFORMED),
        (InProgress(None), at(-1), Transition.REJECT_MALFORMED),
        (at(4), Error("x"), Transition.STORE),
        (Done(), Done(), Transition.UNCHANGED),
        (Done(), Error("x"), Transition.REJECT_TERMINAL),
        (Error("x"), Error("y"), Transition.REJECT_TERMINAL),
        (Error("x"), at(4), Transition.REJECT_TERMINAL),
    ],
)
def test_transition(recorded: ShardImportStatus, reported: ShardImportStatus, expected: Transition) -> None:
    """I3, I6, case by case."""
    assert transition(recorded, reported) is expected


def test_errors_are_told_by_shard() -> None:
    """I7: the control plane gets one text that names each failed shard; null only if none failed."""
    good = {ShardIndex(0, 2): Done(), ShardIndex(1, 2): Done()}
    assert import_state.error_text(good) is None
    bad = {ShardIndex(0, 2): Done(), ShardIndex(1, 2): Error('no "t"')}
    text = import_state.error_text(bad)
    assert text is not None
    assert json.loads(text) == {"0102": 'no "t"'}


# The others are refused before they are recorded.
storable = statuses.filter(
    lambda s: not isinstance(s, InProgress) or not s.progress or s.progress.completed >= 0
)


@given(st.dictionaries(st.builds(ShardIndex, st.integers(0, 3), st.just(4)), storable))
def test_record_round_trip(shards: dict[ShardIndex, ShardImportStatus]) -> None:
    """What the database holds means the same, the full range of the plan hash included."""
    record = json.loads(json.dumps(import_state.to_record(shards)))
    assert import_state.from_record(record) == shards


@given(st.lists(statuses, min_size=1, max_size=4))
def test_complete_means_that_nobody_is_at_work(shards: list[ShardImportStatus]) -> None:
    indices = {ShardIndex(n, 4): status for n, status in enumerate(shards)}
    assert import_state.is_complete(indices) == (not any(isinstance(status, InProgress) for status in shards))


def test_percent() -> None:
    assert import_state.percent(InProgress(None)) == 0
    assert import_state.percent(at(1, jobs=8)) == 12.5
    assert import_state.percent(Done()) == 100
    assert import_state.percent(Error("x")) == 0
