"""Which points the explorer aims at, and with which numbers."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import pytest

from reattach.api.effects import EffectClass, Phase
from reattach.api.plan import PlanError, Step
from reattach.fixtures.explore.chains import chains
from reattach.fixtures.explore.explorer import record
from reattach.fixtures.explore.random_plans import random_chains
from reattach.fixtures.explore.run import plan_of, run_plan
from reattach.fixtures.explore.shape import Point, Shape
from reattach.fixtures.explore.step_text import parse_step, step_text
from reattach.fixtures.explore.targets import Target, compile_steps
from reattach.fixtures.subjects.port import Offer
from test_runner.unit.explore.fake import CHECKPOINT, PUT, FakeJob

KILL = Offer(("kill job",))


@pytest.fixture
def shape(tmp_path: Path) -> Shape:
    return record(FakeJob(), tmp_path / "reference")


def test_a_recorded_run_gives_every_effect_with_its_stage(shape: Shape) -> None:
    expected = [Point(of, stage) for stage in range(4) for of in (PUT, PUT, PUT, CHECKPOINT)]
    assert list(shape.points) == expected
    assert shape.closes_stage(Point(CHECKPOINT, 2))
    assert not shape.closes_stage(Point(PUT, 2))


def test_what_happens_only_after_an_interruption_is_last_of_its_stage(shape: Shape) -> None:
    """Steps that hit there are reduced like others."""
    other = Point(EffectClass("job", "store", "put", "again"), 1)
    assert shape.position(other) == 8
    assert not shape.closes_stage(other)
    steps = compile_steps(
        shape,
        [
            Target(other.effect, 1, Phase.BEFORE, Offer(("answer 503",))),
            Target(PUT, 2, Phase.BEFORE, Offer(("answer 503",))),
            Target(CHECKPOINT, 2, Phase.BEFORE, KILL),
        ],
    )
    assert [step.at for step in steps] == [f"{other.effect} #1", f"{PUT} +1", f"{CHECKPOINT} +1"]


def test_every_cell_is_in_one_chain(shape: Shape) -> None:
    cells = shape.cells(FakeJob())
    assert len(cells) == 2 * 4 * 2 * 2  # classes, stages, phases, actions
    found = list(chains(shape, cells, max_steps=5))
    aimed = Counter(target.cell for chain in found for target in chain)
    assert aimed == dict.fromkeys(cells, 1)
    assert max(map(len, found)) <= 5
    assert len(found) == 7  # 32 in fives
    assert all(a.stage <= b.stage for chain in found for a, b in pairwise(chain))


def test_nothing_follows_what_ends_the_job(shape: Shape) -> None:
    cells = {
        cell: Offer(offer.do, final=cell.stage % 2 == 1) for cell, offer in shape.cells(FakeJob()).items()
    }
    found = list(chains(shape, cells))
    assert Counter(t.cell for chain in found for t in chain) == dict.fromkeys(cells, 1)
    assert all(not target.offer.final for chain in found for target in chain[:-1])


@pytest.mark.parametrize("max_steps", [1, 4, 10])
def test_chains_hit_what_they_aim_at(shape: Shape, max_steps: int, tmp_path: Path) -> None:
    job = FakeJob()
    for number, chain in enumerate(chains(shape, shape.cells(job), max_steps)):
        result = run_plan(job, plan_of(job, compile_steps(shape, chain)), tmp_path / str(number))
        assert [hit.cell for hit in result.hits] == [target.cell for target in chain]


def test_steps_after_a_refusal_count_from_where_the_job_is(shape: Shape) -> None:
    """It does that one effect again, and not the stage."""
    refused = Target(PUT, 1, Phase.BEFORE, Offer(("answer 503",)), nth=2)
    lost = Target(PUT, 1, Phase.AFTER, Offer(("lose answer",)), nth=2)
    then = Target(CHECKPOINT, 2, Phase.BEFORE, KILL)
    same = Target(PUT, 2, Phase.BEFORE, KILL, nth=1)
    assert [s.at for s in compile_steps(shape, [refused, then])] == [f"{PUT} #5", f"{CHECKPOINT} +2"]
    assert [s.at for s in compile_steps(shape, [lost, same])] == [f"{PUT} #5", f"{PUT} +3"]
    assert [s.at for s in compile_steps(shape, [refused, same])] == [f"{PUT} #5", f"{PUT} +3"]


def test_equal_seeds_give_equal_plans(shape: Shape) -> None:
    job, cells = FakeJob(), shape.cells(FakeJob())

    def texts(seed: int) -> list[bytes]:
        many = islice(random_chains(shape, cells, seed), 50)
        return [plan_of(job, compile_steps(shape, chain)).dump() for chain in many]

    assert texts(7) == texts(7)
    assert texts(7) != texts(8)


def test_random_plans_are_long_and_leave_no_cell_out(shape: Shape) -> None:
    cells = shape.cells(FakeJob())
    many = list(islice(random_chains(shape, cells, 1), 40))
    counts = Counter(target.cell for chain in many for target in chain)
    assert set(counts) == set(cells)
    assert 10 < max(map(len, many)) <= 20
    # By chance alone the most frequent of 64 would come four times as often as the rarest.
    assert max(counts.values()) <= 2 * min(counts.values()) + 1


@pytest.mark.parametrize(
    "text",
    [
        "at job > store: put item #2, after: kill job",
        "at job > db: commit insert a; update b +1, before: answer 503",
        'at job > db: post status #1 where "completed":(4|8),, after: lose answer',
        "at job > store: put a, before: b #1, before: partition a b; kill job (in flight performed)",
    ],
)
def test_a_step_as_text_is_read_back(text: str) -> None:
    assert step_text(parse_step(text)) == text


@pytest.mark.parametrize("text", ["kill job", "at job > store: put #1, then: kill job", "at x, before: kill"])
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="kill"):
        parse_step(text)


def test_an_effect_class_with_several_at_a_stage() -> None:
    """The n-th of the stage, counted over what came before."""
    one = EffectClass("a", "b", "put")
    shape = Shape((Point(one, 0), Point(one, 0), Point(one, 1), Point(one, 1), Point(one, 1)))
    steps = compile_steps(shape, [Target(one, 1, Phase.AFTER, KILL, nth=3)])
    assert steps == (Step(at="a > b: put #5", when=Phase.AFTER, do=("kill job",), comment="stage 1"),)
