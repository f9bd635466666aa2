"""Which plans a campaign has."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

import msgspec
import pytest

from reattach.api.plan import Plan
from reattach.fixtures.campaign.plans import alone, by_chance, wanted
from reattach.fixtures.campaign.records import Run, Table
from reattach.fixtures.campaign.tally import Tally
from reattach.fixtures.explore.random_plans import MAX_STEPS
from reattach.fixtures.subjects.port import Outcome
from test_runner.unit.campaign.room import Room
from test_runner.unit.explore.fake import FakeJob


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table_of(FakeJob(), tmp_path_factory.mktemp("table"))


def table_of(job: FakeJob, folder: Path) -> Table:
    return Room(job, folder / "runs").runner.record()


def digests(plans: list[Plan]) -> list[str]:
    return [plan.digest() for plan in plans]


def test_equal_seeds_make_equal_plans_and_no_plan_twice(table: Table) -> None:
    one, same, other = (digests(list(wanted(table, seed, 200))) for seed in (1, 1, 2))
    assert one == same != other
    assert len(set(one)) == 200
    assert digests(list(wanted(table, 1, 50))) == one[:50]


def test_shares_are_the_whole(table: Table) -> None:
    whole = digests(list(wanted(table, 1, 100)))
    shares = [digests(list(wanted(table, 1, 100, (index, 3)))) for index in range(3)]
    assert sorted(chain(*shares)) == sorted(whole)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    soak = [digests(list(by_chance(table, 1, 10, (index, 3)))) for index in range(3)]
    assert sorted(chain(*soak)) == sorted(digests(list(by_chance(table, 1, 10))))


def test_every_cell_comes_first_in_chains_and_then_alone(table: Table) -> None:
    single = alone(table)
    assert set(single.values()) == set(table.offers)
    plans = list(wanted(table, 1, 300))
    first = next(number for number, plan in enumerate(plans) if plan.digest() in single)
    assert sum(len(plan.steps) for plan in plans[:first]) == len(table.offers)
    last = max(number for number, plan in enumerate(plans) if plan.digest() in single)
    assert last - first + 1 == len(single)


def test_a_job_with_few_plans_ends(tmp_path: Path) -> None:
    """Chance finds nothing new after a while."""
    table = table_of(FakeJob(items=1, every=2), tmp_path)
    one = msgspec.structs.replace(table, cells=table.cells[:1])
    found = digests(list(wanted(one, 1, 10_000)))
    assert 1 < len(set(found)) == len(found) <= MAX_STEPS


def test_a_table_is_all_that_plans_are_made_of(table: Table) -> None:
    """It is what is kept: read back, it makes the same."""
    again = msgspec.json.decode(msgspec.json.encode(table), type=Table)
    assert digests(list(islice(wanted(again, 1, 30), 30))) == digests(list(wanted(table, 1, 30)))


def test_what_is_missed_in_a_run_of_its_own_is_unreachable_until_it_is_hit(table: Table) -> None:
    tally = Tally.of(table)
    digest, cell = next(iter(alone(table).items()))
    rules = ("never happened",)
    tally.add(Run(plan=digest, outcome=Outcome.UNKNOWN, rules=rules, seconds=1.0))
    assert tally.coverage.unreachable == {cell: "it never happened in a run of its own"}
    row = (cell.effect, cell.stage, cell.when, cell.action)
    tally.add(Run(plan="another", outcome=Outcome.UNKNOWN, rules=rules, seconds=1.0, cells=(row,)))
    assert tally.coverage.state(cell) == "hit"
    assert tally.unknown == {"never happened": 2}
