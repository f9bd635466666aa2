"""Verdicts, how they are one, and what makes a history unfit to be judged."""

from __future__ import annotations

import pytest

from reattach.api.effects import Phase
from reattach.api.history import Happened, History
from reattach.fixtures.judge.verdict import Finding, Judgement, Outcome, Verdict, combine, verdicts
from reattach.fixtures.judge.whole import whole
from test_runner.unit.judge.story import Story, uninterrupted

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN


def of(*outcomes: Outcome) -> Judgement:
    return Judgement(tuple(Verdict(f"I{n} x", outcome, "so") for n, outcome in enumerate(outcomes)))


@pytest.mark.parametrize(
    ("outcomes", "worst"),
    [
        ([], UNKNOWN),
        ([PASS], PASS),
        ([PASS, UNKNOWN], UNKNOWN),
        ([UNKNOWN, FAIL, PASS], FAIL),
    ],
)
def test_the_worst_counts(outcomes: list[Outcome], worst: Outcome) -> None:
    """Nothing judged is not a pass."""
    assert of(*outcomes).outcome is worst


def test_the_report_begins_with_what_is_wrong() -> None:
    lines = of(PASS, UNKNOWN, FAIL).report().splitlines()
    assert [line.split()[0] for line in lines] == ["fail", "unknown", "pass"]


def test_a_verdict_names_the_invariant_first_and_shows_effects() -> None:
    verdict = Verdict("I2 durable before told", FAIL, "shard 0000 told too early", tuple(range(1, 11)))
    assert str(verdict) == (
        "I2 durable before told: shard 0000 told too early (effects 1, 2, 3, 4, 5, 6, 7, 8 and 2 more)"
    )
    assert verdict.number == "I2"


def test_each_finding_is_a_verdict() -> None:
    found = verdicts("I1 x", [Finding("a"), Finding("b", (3,))], "fine")
    assert [(one.outcome, one.sentence, one.effects) for one in found] == [(FAIL, "a", ()), (FAIL, "b", (3,))]
    assert [one.outcome for one in verdicts("I1 x", [], "fine")] == [PASS]


def test_the_same_verdict_twice_is_one() -> None:
    assert len(combine([of(FAIL), of(FAIL, PASS)])) == 2


def test_a_whole_history_is_one() -> None:
    assert [one.outcome for one in whole(uninterrupted().history())] == [PASS]


def step_missing(s: Story) -> None:
    s.mark("steps", set=2)
    s.lines.append(Happened(at=s.now, step=1, effect=1, phase=Phase.BEFORE, do=("hold",)))


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (step_missing, "step 2 of 2 never happened"),
        (lambda s: s.mark("lost", why="the disk is full"), "the disk is full"),
    ],
)
def test_what_may_be_missing_makes_it_unknown(break_it: object, why: str) -> None:
    story = uninterrupted()
    assert callable(break_it)
    break_it(story)
    (verdict,) = whole(story.history())
    assert verdict.outcome is UNKNOWN
    assert why in verdict.sentence


def test_a_truncated_history_is_unknown() -> None:
    (verdict,) = whole(History(uninterrupted().history().lines, truncated=True))
    assert verdict.outcome is UNKNOWN
    assert "cut off" in verdict.sentence
