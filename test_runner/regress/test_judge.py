"""The judge on real histories: it believes no engine's word, and notices what was changed in a history."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from reattach.api.effects import EffectName
from reattach.api.history import Answered, Arrived, History, Line, Performed, encode_line, load
from reattach.fixtures.cli.main import main
from reattach.fixtures.env.engines import PAGESERVER, Engine, Engines
from reattach.fixtures.imports.bucket import ImportBucket
from reattach.fixtures.imports.handle import after_job
from reattach.fixtures.imports.invariants import InvariantViolated
from reattach.fixtures.judge.neon.case import look_at
from reattach.fixtures.judge.neon.judge import judge
from reattach.fixtures.judge.neon.reference import learn
from reattach.fixtures.judge.verdict import Outcome
from reattach.fixtures.neon_fixtures import NeonEnvBuilder, PageserverImportConfig
from test_runner.regress.interruptions import JOB_SIZE, stopped_import


@pytest.mark.parametrize("shard_count", [0, 2])
def test_a_run_with_each_checkpoint_teaches_what_every_run_shows(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket, shard_count: int
) -> None:
    """I1: the jobs of an import that was cut, with other settings, are those of a run that recorded each."""
    neon_env_builder.pageserver_import_config = PageserverImportConfig(1, JOB_SIZE, 1)
    env = neon_env_builder.init_start()
    env.start_import(import_bucket, shard_count=shard_count).wait_done()
    reference = learn(env.world.history())

    key, value = PageserverImportConfig(4, JOB_SIZE, 4).to_config_key_value()
    env.pageserver.patch_config_toml_nonrecursive({key: value})
    env.pageserver.restart()
    timeline = env.start_import(
        import_bucket, shard_count=shard_count, hold=after_job(6), branch_name="second"
    )
    timeline.wait_at(after_job(6))
    timeline.kill().start()
    timeline.wait_done()

    case = look_at(env.world.history())
    seen = {
        p.shard.shard_index: jobs for p, jobs in case.learnt.items() if p.timeline == timeline.timeline_id
    }
    assert seen == dict(reference.shards)
    assert not case.unassigned, "a read of a relation is of no job"


# -- a history that was changed


def about(history: History, text: str) -> Iterator[tuple[int, Arrived]]:
    """The effects whose names contain the text, with the places of their arrival."""
    for place, line in enumerate(history.lines):
        if isinstance(line, Arrived) and text in line.name:
            yield place, line


def without(history: History, effects: set[int]) -> History:
    kept = (line for line in history.lines if getattr(line, "effect", None) not in effects)
    return History(tuple(kept))


def changed(history: History, number: int, **changes: object) -> History:
    """With another answer, or status, to one effect."""
    lines: list[Line] = []
    for line in history.lines:
        own = isinstance(line, Performed | Answered) and line.effect == number
        fields = {name: value for name, value in changes.items() if hasattr(line, name)}
        lines.append(msgspec.structs.replace(line, **fields) if own and fields else line)
    return History(tuple(lines))


def moved(history: History, number: int, after: int) -> History:
    """All lines of one effect come after the arrival of another."""
    own = [line for line in history.lines if getattr(line, "effect", None) == number]
    rest = list(without(history, {number}).lines)
    place = next(i for i, line in enumerate(rest) if isinstance(line, Arrived) and line.effect == after)
    return History((*rest[: place + 1], *own, *rest[place + 1 :]))


def status_of(line: Arrived) -> object:
    body = line.request["body"]
    assert isinstance(body, dict)
    return body.get("status")


def a_layer_is_lost(history: History) -> History:
    _, first = next(about(history, ": put layer"))
    return without(history, {first.effect})


def an_index_comes_late(history: History) -> History:
    _, report = next(about(history, ": post status"))
    place = next(place for place, line in about(history, ": post status") if line.effect == report.effect)
    index = [line for at, line in about(history, ": put index") if at < place][-1]
    return moved(history, index.effect, report.effect)


def the_answer_forgets(history: History) -> History:
    """The second attachment is told that nothing is recorded."""
    _, second = list(about(history, ": get status"))[1]
    return changed(history, second.effect, answer={"body": {"InProgress": None}})


def nobody_asks(history: History) -> History:
    _, second = list(about(history, ": get status"))[1]
    return without(history, {second.effect})


def a_refusal_was_none(history: History) -> History:
    """The last checkpoint before the cut is told a second time, after all others, and taken."""
    reports = [line for _, line in about(history, ": post status")]
    first, last = reports[0], max(line.effect for line in history.lines if isinstance(line, Arrived))
    name = EffectName(EffectName.parse(first.name).of, 999)
    again = msgspec.structs.replace(first, effect=last + 1, name=str(name))
    lines = (again, Performed(at=0, effect=last + 1, status=200), Answered(at=0, effect=last + 1, status=200))
    place = next(i for i, line in about(history, ": post status") if status_of(line) == "Done")
    return History((*history.lines[:place], *lines, *history.lines[place:]))


def no_activation(history: History) -> History:
    return without(history, {line.effect for _, line in about(history, ": activate timeline")})


def an_error_is_called_success(history: History) -> History:
    lines: list[Line] = []
    for line in history.lines:
        if isinstance(line, Arrived) and ": post status" in line.name and status_of(line) == "Done":
            body = line.request["body"]
            assert isinstance(body, dict)
            request = line.request | {"body": body | {"status": {"Error": "it was bad"}}}
            lines.append(msgspec.structs.replace(line, request=request))
        else:
            lines.append(line)
    return History(tuple(lines))


CHANGES: list[tuple[str, Callable[[History], History]]] = [
    ("I2", a_layer_is_lost),
    ("I2", an_index_comes_late),
    ("I3", the_answer_forgets),
    ("I5", nobody_asks),
    ("I3", a_refusal_was_none),
    ("I7", no_activation),
    ("I7", an_error_is_called_success),
]


def test_what_is_changed_in_a_history_is_noticed(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket, tmp_path: Path
) -> None:
    """I2, I3, I5, I7: the history of a healthy import that was cut, and lies made of it.
    `reattach judge` says the same as the test.
    """
    timeline = stopped_import(neon_env_builder, import_bucket, after_job(6))
    timeline.kill().start()
    timeline.wait_done()

    history = timeline.env.world.history()
    judgement = judge(history)
    assert judgement.outcome is Outcome.PASS, judgement.report()
    for invariant, change in CHANGES:
        lie = change(history)
        assert lie.lines != history.lines, change.__name__
        failed = {one.number for one in judge(lie).failures}
        assert invariant in failed, f"{change.__name__}: {judge(lie).report()}"

    kept = tmp_path / "history.jsonl"
    kept.write_bytes(b"".join(map(encode_line, history.lines)))
    assert load(kept) == dataclasses.replace(history)
    result = CliRunner().invoke(main, ["judge", str(kept)])
    assert (result.exit_code, result.output) == (0, judgement.report() + "\n")


# -- an engine that lies

SAYS_NOTHING = "import logging\nlogging.disable(logging.CRITICAL)\n"

TELLS_TOO_EARLY = """
from reattach.pageserver.import_pgdata.task import _Import
from reattach.pageserver.timeline.import_target import TimelineImportTarget

execute, make_durable = _Import._execute, TimelineImportTarget.make_durable

async def executed(self, *arguments):
    await execute(self, *arguments)
    self.target.is_executed = True

async def only_at_the_end(self):
    if getattr(self, "is_executed", False):
        await make_durable(self)

_Import._execute = executed
TimelineImportTarget.make_durable = only_at_the_end
"""


def wrapped(folder: Path, first: str) -> Engine:
    """The built-in pageserver, which runs `first` before anything else."""
    path, program = folder / PAGESERVER, folder / "wrapped.py"
    program.write_text(
        "import runpy, sys\n"
        "if '--version' in sys.argv:\n"
        "    print('wrapped features: [\"testing\"]')\n"
        "    sys.exit()\n"
        f"{first}\n"
        "runpy.run_module('reattach.pageserver', run_name='__main__', alter_sys=True)\n"
    )
    # A first line with the interpreter would end at a space in its path.
    path.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(program)])} "$@"\n')
    path.chmod(0o755)
    return Engine(PAGESERVER, path, builtin=False)


def test_an_engine_that_works_rightly_and_logs_nothing_passes(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket, tmp_path: Path
) -> None:
    """Nothing is decided by a log."""
    resources = neon_env_builder.resources
    resources.engines = Engines(wrapped(tmp_path, SAYS_NOTHING), resources.engines.storage_controller)
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket, hold=after_job(6))
    timeline.wait_at(after_job(6))
    stopped_at = timeline.progress()
    assert stopped_at[0].completed == 4
    timeline.kill().start()

    run = timeline.wait_done()
    run.assert_resumed_from(stopped_at)
    assert (run.interruptions, run.lost) == (1, 0)
    assert not any("import" in line for line in env.pageserver.log_lines())


def test_an_engine_that_logs_perfectly_and_tells_too_early_is_caught(
    neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket, tmp_path: Path
) -> None:
    """I2: every checkpoint is told before it is durable; the log and the end are as they should be."""
    resources = neon_env_builder.resources
    resources.engines = Engines(wrapped(tmp_path, TELLS_TOO_EARLY), resources.engines.storage_controller)
    neon_env_builder.pageserver_import_config = PageserverImportConfig(4, JOB_SIZE, 4)
    env = neon_env_builder.init_start()
    timeline = env.start_import(import_bucket)
    with pytest.raises(InvariantViolated, match=r"^I2 durable before told: shard 0000 told completed = 4"):
        timeline.wait_done()
    assert env.pageserver.log_contains(r"import checkpoint 4/\d+ recorded")
    timeline.assert_equals(import_bucket)
