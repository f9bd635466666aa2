"""How a run chooses its crash points as it goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from reattach.api.effects import EffectClass, Phase
from reattach.fixtures.explore.explorer import record
from reattach.fixtures.explore.hunt import MAX_STEPS, Hunter
from reattach.fixtures.explore.run import run_hunt, run_plan
from reattach.fixtures.explore.shape import Cell, Point, Shape
from reattach.fixtures.subjects.port import Offer
from test_runner.unit.explore.fake import FakeJob

KILL = Offer(("kill job",))


@pytest.fixture
def shape(tmp_path: Path) -> Shape:
    return record(FakeJob(), tmp_path / "reference")


def test_a_run_goes_on_from_stage_to_stage_and_tries_every_action(shape: Shape, tmp_path: Path) -> None:
    """Hardly a point twice before all of them once, and not the same action everywhere."""
    job = FakeJob()
    hunter = Hunter(shape, shape.cells(job))
    hunt = hunter.next()
    assert hunt is not None
    result = run_hunt(job, hunt, tmp_path / "first")
    cells = [hit.cell for hit in result.hits]
    assert len(cells) == MAX_STEPS
    assert {cell.stage for cell in cells} == {0, 1, 2, 3}
    assert len({(cell.effect, cell.stage, cell.when) for cell in cells}) >= MAX_STEPS - 1
    assert {cell.action for cell in cells} == {"kill job", "terminate job"}


def test_the_plan_of_a_run_repeats_it(shape: Shape, tmp_path: Path) -> None:
    job = FakeJob()
    hunter = Hunter(shape, shape.cells(job))
    for number in range(3):
        hunt = hunter.next()
        assert hunt is not None
        result = run_hunt(job, hunt, tmp_path / f"hunt{number}")
        again = run_plan(job, result.plan, tmp_path / f"plan{number}")
        assert again.hits == result.hits


def test_nothing_follows_what_ends_the_job(shape: Shape, tmp_path: Path) -> None:
    job = FakeJob()
    ends_it = ("terminate job",)
    cells = {cell: Offer(offer.do, final=offer.do == ends_it) for cell, offer in shape.cells(job).items()}
    hunter = Hunter(shape, cells)
    finals = 0
    while (hunt := hunter.next()) is not None:
        hits = run_hunt(job, hunt, tmp_path / f"run{len(list(tmp_path.iterdir()))}").hits
        hunt.over([hit.cell for hit in hits])
        ends = [cells[hit.cell].final for hit in hits]
        assert not any(ends[:-1])
        finals += sum(ends)
    assert finals == sum(offer.final for offer in cells.values())
    assert hunter.alone() is None


def test_what_never_comes_is_aimed_at_alone_and_then_given_up(shape: Shape, tmp_path: Path) -> None:
    job = FakeJob()
    never = Cell("job > store: put nothing", 2, Phase.BEFORE, "kill job")
    points = Shape((*shape.points, Point(EffectClass.parse(never.effect), 2)))
    hunter = Hunter(points, {**shape.cells(job), never: KILL})
    runs = 0
    while (hunt := hunter.next()) is not None:
        runs += 1
        hits = run_hunt(job, hunt, tmp_path / f"run{runs}").hits
        hunt.over([hit.cell for hit in hits])
    assert runs < 10
    last = hunter.alone()
    assert last is not None
    assert run_hunt(job, last, tmp_path / "alone").hits == ()
    assert [target.cell for target in last.armed] == [never]
