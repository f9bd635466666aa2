"""Results: kept, read back, merged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.api.effects import Phase
from reattach.api.plan import Plan, Step
from reattach.fixtures.campaign.groups import MAX_CAUSES, Groups
from reattach.fixtures.campaign.merge import worse_failure, worse_run
from reattach.fixtures.campaign.records import CellRow, Failure, Key, Run, Table
from reattach.fixtures.campaign.store import Store, StoreError, merge_into
from reattach.fixtures.campaign.tally import Tally
from reattach.fixtures.subjects.port import Outcome

KEY = Key(commit="c", subject="s", engine="e")
TABLE = Table(subject="s", settings={"a": 1}, points=(), cells=())

cells = st.tuples(
    st.sampled_from(["a > b: put x", "a > b: put y"]),
    st.integers(0, 2),
    st.sampled_from(Phase),
    st.just("kill a"),
)
runs = st.builds(
    Run,
    plan=st.sampled_from("pqr"),
    outcome=st.sampled_from(Outcome),
    rules=st.sampled_from([(), ("wrong result",), ("I2", "I5")]),
    sentence=st.text(max_size=5),
    seconds=st.sampled_from([0.5, 1.25]),
    cells=st.lists(cells, max_size=2).map(tuple),
    body=st.just("{}"),
    worker=st.sampled_from("vw"),
)
body = (
    Plan(subject="s", steps=(Step(at="a > b: put x #1", when=Phase.AFTER, do=("kill a",)),)).dump().decode()
)
failures = st.builds(
    Failure,
    run=st.sampled_from("pq"),
    body=st.just(body),
    rules=st.just(("wrong result",)),
    needed=st.just((("a > b: put x", Phase.AFTER, "kill a"),)),
    sentence=st.text(max_size=3),
    confirmed=st.integers(0, 3),
    of=st.just(3),
    test=st.just("def test(): ..."),
    history=st.binary(max_size=3),
)


@given(runs, runs, runs)
def test_merging_runs_needs_no_order(one: Run, two: Run, three: Run) -> None:
    assert worse_run(one, two) == worse_run(two, one)
    assert worse_run(worse_run(one, two), three) == worse_run(one, worse_run(two, three))
    assert worse_run(one, one) == one
    assert {one.outcome, two.outcome} >= {worse_run(one, two).outcome}
    if Outcome.FAILED in (one.outcome, two.outcome):
        assert worse_run(one, two).outcome is Outcome.FAILED


@given(failures, failures, failures)
def test_merging_failures_needs_no_order(one: Failure, two: Failure, three: Failure) -> None:
    assert worse_failure(one, two) == worse_failure(two, one)
    assert worse_failure(worse_failure(one, two), three) == worse_failure(one, worse_failure(two, three))
    assert worse_failure(one, one) == one
    assert worse_failure(one, two).confirmed == max(one.confirmed, two.confirmed)


def run(plan: str, outcome: Outcome = Outcome.SURVIVED, cells: tuple[CellRow, ...] = ()) -> Run:
    rules = ("wrong result",) if outcome is Outcome.FAILED else ()
    return Run(plan=plan, outcome=outcome, rules=rules, seconds=1.0, cells=cells, body="", worker="w")


@given(st.lists(runs, max_size=6), st.lists(failures, max_size=4))
def test_what_is_kept_is_read_back(kept: list[Run], reduced: list[Failure]) -> None:
    store = Store(":memory:")
    store.put_runs(KEY, kept)
    store.put_failures(KEY, reduced)
    expected: dict[str, Run] = {}
    for one in kept:
        expected[one.plan] = worse_run(expected[one.plan], one) if one.plan in expected else one
    assert {one.plan: one for one in store.runs(KEY)} == expected
    assert {one.run for one in store.failures(KEY)} == {one.run for one in reduced}


def test_machines_are_merged_and_merging_again_changes_nothing(tmp_path: Path) -> None:
    other = Key(commit="d", subject="s", engine="e")
    places = [str(tmp_path / name) for name in ("one", "two", "all")]
    one, two, whole = map(Store, places)
    one.put_reference(KEY, TABLE)
    two.put_reference(KEY, TABLE)
    two.put_reference(other, TABLE)
    one.put_runs(KEY, [run("p"), run("q", Outcome.FAILED)])
    two.put_runs(KEY, [run("q"), run("r", Outcome.UNKNOWN)])
    two.put_runs(other, [run("p", Outcome.FAILED)])
    for _ in range(2):
        assert [merge_into(whole, Store(place)) for place in places[:2]] == [2, 3]
        assert whole.campaigns() == [KEY, other]
        assert {r.plan: r.outcome for r in whole.runs(KEY)} == {
            "p": Outcome.SURVIVED,
            "q": Outcome.FAILED,
            "r": Outcome.UNKNOWN,
        }
        assert [r.outcome for r in whole.runs(other)] == [Outcome.FAILED]


def test_the_first_reference_stays() -> None:
    """Who was faster: the plans of both are made of the same table."""
    store = Store(":memory:")
    assert store.reference(KEY) is None
    assert store.put_reference(KEY, TABLE) == TABLE
    assert store.put_reference(KEY, Table(subject="t", settings={}, points=(), cells=())) == TABLE


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, but long enough to be taken for one: " + "x" * 200)
    with pytest.raises(StoreError, match=r"text: file is not a database"):
        Store(str(tmp_path / "text"))
    with pytest.raises(StoreError, match="unable to open"):
        Store(str(tmp_path / "nowhere" / "file"))
    with pytest.raises(StoreError, match=r"127\.0\.0\.1"):
        Store("postgresql://127.0.0.1:1/none")


def test_a_plan_is_counted_once() -> None:
    tally = Tally.of(TABLE)
    tally.add(run("p"))
    with pytest.raises(ValueError, match="p is there twice"):
        tally.add(run("p"))


KILL: CellRow = ("a > b: put x", 0, Phase.BEFORE, "kill a")


def test_one_reduction_of_a_kind_at_a_time_and_no_more_than_a_few() -> None:
    """Ten thousand failures do not become ten thousand reductions."""
    groups = Groups()
    for number in range(100):
        assert groups.add_run(run(f"{number:03}", Outcome.FAILED, (KILL,) * (1 + number % 3))) is None
    tried = []
    while (failing := groups.take()) is not None:
        assert groups.take() is None
        tried.append(failing.plan)
        groups.give_up(failing)
    assert len(tried) == len(set(tried)) == MAX_CAUSES
    (group,) = groups
    assert (group.runs, len(group.open)) == (100, 100)


def test_a_cause_explains_what_has_all_that_it_needs() -> None:
    groups = Groups()
    other: CellRow = ("a > b: put y", 1, Phase.AFTER, "kill a")
    groups.add_run(run("p", Outcome.FAILED, (KILL,)))
    groups.add_run(run("q", Outcome.FAILED, (other,)))
    first = groups.take()
    assert first is not None and first.plan == "p"
    failure = Failure(
        run="p",
        body=body,
        rules=("wrong result",),
        needed=(("a > b: put x", Phase.BEFORE, "kill a"),),
        sentence="",
        confirmed=3,
        of=3,
        test="",
    )
    assert [one.plan for one in groups.add_failure(failure)] == ["p"]
    groups.give_back(first)
    assert groups.add_run(run("r", Outcome.FAILED, (other, KILL))) == failure
    assert groups.add_run(run("s", Outcome.FAILED, (other,))) is None
    (group,) = groups
    assert [(f.run, count) for f, count in group.causes] == [("p", 2)]
    assert sorted(one.plan for one in group.open) == ["q", "s"]
    second = groups.take()
    assert second is not None and second.plan == "q"
