"""Imports by chance: what a seed says, and nothing else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest

from reattach.api.plan import Action, Plan, Step, Verb
from reattach.fixtures.cli.subjects import subject_of
from reattach.fixtures.explore.step_text import parse_step, step_text
from reattach.fixtures.subjects.neon.by_chance import LAYERS, plan_by_chance

MANY = 300


def plans(count: int = MANY) -> Iterator[Plan]:
    return (plan_by_chance(7, number) for number in range(count))


def digest(count: int = MANY) -> str:
    return hashlib.sha256(b"".join(plan.dump() for plan in plans(count))).hexdigest()


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_equal_seeds_give_equal_bytes_in_any_process(hash_seed: str) -> None:
    code = "from test_runner.unit.explore.test_by_chance import digest; print(digest())"
    other = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == digest()


def test_other_seeds_and_numbers_give_other_plans() -> None:
    made = {plan_by_chance(seed, number).digest() for seed in range(3) for number in range(100)}
    assert len(made) == 300


def test_a_plan_is_replayed_from_its_file() -> None:
    for plan in plans():
        assert Plan.load(plan.dump()) == plan
        assert subject_of(plan)
        assert all(parse_step(step_text(step)) == step for step in plan.steps)


def test_everything_happens() -> None:
    """Each kind of trouble, to each process and at the database, before and after."""
    seen: set[str] = set()
    for step in steps():
        (action,) = step.actions()
        seen.add(action.text.partition(" ")[0] if action.verb is None else action.verb)
        seen |= {*action.processes, step.when, step.in_flight}
        if "> postgres" in step.at and action.verb is not None:
            seen.add(f"postgres: {action.verb}")
    verbs = {Verb.KILL, Verb.TERMINATE, Verb.DROP, Verb.ANSWER, Verb.LOSE_ANSWER}
    expected = {*verbs, "stop", "bucket", "migrate", "detach", "delete", "before", "after", "drop", "perform"}
    expected |= {f"postgres: {verb}" for verb in (Verb.DROP, Verb.ANSWER, Verb.LOSE_ANSWER)}
    expected |= {"storage_controller", "pageserver_1", "pageserver_2", "pageserver_3"}
    assert expected <= seen


def steps() -> Iterator[Step]:
    for plan in plans():
        yield from plan.steps


def test_a_process_is_not_ended_twice_in_a_row() -> None:
    """It may not be up again, and who is down cannot be killed."""
    for plan in plans():
        ends = (Verb.KILL, Verb.TERMINATE)
        ended = [action.processes if action.verb in ends else () for action in _all(plan)]
        assert all(a != b or not a for a, b in pairwise(ended)), plan.comment


def test_steps_wait_for_no_more_layers_than_there_are() -> None:
    for plan in plans():
        waits = [int(step.at.rpartition("+")[2]) for step in plan.steps if "put layer" in step.at]
        assert sum(waits) <= LAYERS + 1, plan.comment  # a deletion waits for one


def _all(plan: Plan) -> list[Action]:
    return [action for step in plan.steps for action in step.actions()]
