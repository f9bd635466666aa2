"""A soak: imports that are set up and broken by chance, and what of it an attempt carries out itself."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from reattach.api.bucket import Match, Operation, Rule, Status
from reattach.api.history import Arrived, Signalled, load
from reattach.fixtures.bucket.server import BucketServer
from reattach.fixtures.cli.subjects import ImportLine
from reattach.fixtures.explore.plugin import NothingObserved, Replay, replay_plan
from reattach.fixtures.subjects.neon import operator
from reattach.fixtures.subjects.neon.by_chance import plan_by_chance
from reattach.fixtures.subjects.neon.plugin import MakeImport
from reattach.fixtures.subjects.neon.trouble import bucket_rule, stop_for

LAYER = "at pageserver_1 > s3: put layer 0000 #2, after: "


def test_a_process_stands_still_for_a_while(replay: Replay, neon_import: MakeImport) -> None:
    result = replay(neon_import(), LAYER + stop_for("pageserver_1", 0.2))
    lines = [line for line in load(result.folder / "history.jsonl").lines if isinstance(line, Signalled)]
    stopped, went_on = lines[:2]
    assert [(one.process, one.signal) for one in (stopped, went_on)] == [
        ("pageserver_1", "SIGSTOP"),
        ("pageserver_1", "SIGCONT"),
    ]
    assert went_on.at - stopped.at >= 0.2


def test_a_rule_of_the_bucket_is_met(replay: Replay, neon_import: MakeImport) -> None:
    rule = Rule(match=Match(operations=frozenset({Operation.GET_OBJECT}), times=2), action=Status(status=500))
    replay(neon_import(), LAYER + bucket_rule(rule))


def test_a_rule_that_nobody_meets_is_told(replay: Replay, neon_import: MakeImport) -> None:
    rule = Rule(match=Match(key="no such key"), action=Status(status=500))
    with pytest.raises(NothingObserved, match="no request met the bucket's rule"):
        replay(neon_import(), LAYER + bucket_rule(rule))


def test_several_imports_at_once(replay: Replay, neon_import: MakeImport) -> None:
    """I8, I10: each comes to its end, and each is compared; an operator deletes the first alone."""
    result = replay(neon_import(imports=3), LAYER + "kill pageserver_1")
    assert [one.sentence for one in result.findings].count("every byte equals the bucket's") == 3
    result = replay(neon_import(imports=2), LAYER + "delete")
    said = [one.sentence for one in result.findings]
    assert said.count("every byte equals the bucket's") == 1
    assert said.count("nothing is left of the deleted timeline") == 1


def test_an_attempt_leaves_nothing_behind(
    replay: Replay, neon_import: MakeImport, bucket_server: BucketServer
) -> None:
    """I12, of the explorer: ten thousand plans need no more memory than one."""
    before = bucket_server.control.health().objects
    replay(neon_import(), LAYER + "kill pageserver_1")
    assert bucket_server.control.health().objects == before
    assert not bucket_server.log.where(Operation.PUT_OBJECT)


@pytest.mark.parametrize("number", [0, 1, pytest.param(range(2, 13), marks=pytest.mark.slow, id="2_to_12")])
def test_import_survives_what_chance_brings(
    neon_import: MakeImport, test_output_dir: Path, number: int | range
) -> None:
    """I2, I5, I7, I8, I9, I10: nothing is lost, wrong, told twice, or stuck. See `reattach soak`.

    What chance has planned may do nothing, as a kill of what is down already. That shows nothing.
    """
    numbers = [number] if isinstance(number, int) else number
    showed_nothing = 0
    for one in numbers:
        plan = plan_by_chance(7, one)
        subject = neon_import(**msgspec.to_builtins(msgspec.convert(plan.settings, ImportLine)))
        try:
            replay_plan(subject, plan, test_output_dir / "soak")
        except NothingObserved:
            showed_nothing += 1
    assert showed_nothing <= len(numbers) // 3


def test_an_import_has_not_ended_while_somebody_moves_its_shards(
    replay: Replay, neon_import: MakeImport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who compares meanwhile asks a pageserver that has none of it any more."""
    monkeypatch.setattr(operator, "WHILE_HELD_SECONDS", 0.0)
    moves = [
        "at storage_controller > control_plane: put import_complete +1, before: migrate; migrate; migrate"
    ]
    result = replay(neon_import(shards=3, pageservers=2), *moves)
    lines = load(result.folder / "history.jsonl").lines
    moved = [line for line in lines if isinstance(line, Arrived) and "'AttachedMulti'" in str(line.request)]
    assert len(moved) == 9
