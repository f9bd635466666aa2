"""Breaks a copy of the engine on purpose, one breakage at a time, and says which test noticed.

./scripts/break                  all of them, each with the test that must notice
./scripts/break --list
./scripts/break accept-stale-generation tell-before-durable
./scripts/break --whole          each with all of `-k import_resume`; says which share was noticed
./scripts/break --explore        each with an exploration; says after how long, and how many steps it needs
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from test_runner.breakages import BREAKAGES, Breakage

ROOT = Path(__file__).resolve().parent.parent

TEST_SECONDS = 600
EXPLORE_SECONDS = 120

WHOLE = "import_resume"
NOTICED_SHARE = 0.9


class DoesNotApply(Exception):
    """The engine has changed, and the breakage has to change with it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a breakage.

    failed: the tests that turned red. told: what they said. reason: the line of it that names the cause.
    """

    breakage: Breakage
    failed: tuple[str, ...]
    told: tuple[str, ...]
    reason: str | None

    @property
    def caught(self) -> bool:
        return bool(self.failed) and self.reason is not None


def copy_tree(target: Path) -> None:
    """Copies what git tracks, or would."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def apply(breakage: Breakage, tree: Path) -> None:
    """Puts the breakage into the tree. Raises DoesNotApply."""
    for edit in breakage.edits:
        file = tree / edit.file
        text = file.read_text()
        if (count := text.count(edit.old)) != 1:
            raise DoesNotApply(f"{breakage.name}: {edit.file} has its text {count} times, not once")
        file.write_text(text.replace(edit.old, edit.new))


@contextmanager
def broken(breakage: Breakage) -> Iterator[tuple[Path, dict[str, str]]]:
    """A broken copy, and the environment for programs that are to use it. Raises DoesNotApply."""
    with tempfile.TemporaryDirectory(prefix="reattach-break-") as folder:
        tree = Path(folder)
        # PostgreSQL runs as another user, who has to get in.
        tree.chmod(0o755)
        copy_tree(tree)
        apply(breakage, tree)
        yield tree, {**os.environ, "PYTHONPATH": str(tree), "TEST_OUTPUT": str(tree / "test_output")}


def try_out(breakage: Breakage) -> Outcome:
    """Runs the breakage's tests against a broken copy. Raises DoesNotApply."""
    with broken(breakage) as (tree, environment):
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", breakage.test]
        run = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TEST_SECONDS
        )
    output = run.stdout + run.stderr
    failed = tuple(re.findall(r"^(?:FAILED|ERROR) \S*?::(.+?)(?: - .*)?$", output, re.MULTILINE))
    told = [line.removeprefix("E").strip() for line in output.splitlines() if line.startswith("E ")]
    reason = next((line for line in told if breakage.says in line), None)
    return Outcome(breakage, failed, tuple(told), reason)


@dataclass(frozen=True, slots=True)
class Found:
    """What an exploration says of a breakage. steps: of the reduced plan; None if it found nothing, 0 if an
    import fails that nobody interrupts.
    """

    breakage: Breakage
    seconds: float
    steps: int | None
    sentence: str


def explore(breakage: Breakage) -> Found:
    """Explores imports of a broken engine until the first failure. Raises DoesNotApply."""
    with broken(breakage) as (tree, environment):
        output = tree / "explored"
        command = [sys.executable, "-m", "reattach.fixtures.cli", "explore", "--failures", "1"]
        command += ["--budget", str(EXPLORE_SECONDS), "--output", str(output)]
        began = time.monotonic()
        run = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
        seconds = time.monotonic() - began
        for plan in output.glob("explore/failures/*/plan.json"):
            verdicts = json.loads((plan.parent / "verdicts.json").read_text())
            first = next(one for one in verdicts["findings"] if one["outcome"] == "failed")
            steps = len(json.loads(plan.read_text())["steps"])
            return Found(breakage, seconds, steps, f"{first['rule']}: {first['sentence']}")
        unasked = re.search(r"fails though nobody interrupts it: (.*)", run.stdout + run.stderr)
        return Found(breakage, seconds, 0 if unasked else None, unasked[1] if unasked else "")


def _explore_all(chosen: Sequence[Breakage]) -> int:
    """A table of what explorations find; 1 if one finds nothing."""
    missed = 0
    print("| breakage | invariant | seconds | steps | what it says |\n|---|---|---|---|---|")
    for breakage in chosen:
        found = explore(breakage)
        missed += found.steps is None
        steps = "not found" if found.steps is None else str(found.steps)
        sentence = found.sentence.replace("|", "/")[:100]
        row = (breakage.name, breakage.invariant, f"{found.seconds:.0f}", steps, sentence)
        print(f"| {' | '.join(row)} |", flush=True)
    return 1 if missed else 0


def _whole_all(chosen: Sequence[Breakage]) -> int:
    """The share that any test of the main job notices; 1 if that is too little."""
    noticed = 0
    for breakage in chosen:
        outcome = try_out(replace(breakage, test=WHOLE))
        noticed += bool(outcome.failed)
        print(f"{breakage.name}: {', '.join(outcome.failed) or 'nobody noticed'}", flush=True)
    share = noticed / len(chosen)
    print(f"{noticed} of {len(chosen)} noticed: {share:.0%}")
    return 0 if share >= NOTICED_SHARE else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/break", description="Prove that the tests can fail.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="breakages to try; all by default")
    parser.add_argument("--list", action="store_true", help="list the breakages")
    parser.add_argument("--whole", action="store_true", help=f"try all of `-k {WHOLE}` on each")
    parser.add_argument("--explore", action="store_true", help="explore an import of each")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # the copy goes, too
    known = {breakage.name: breakage for breakage in BREAKAGES}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no such breakage: {', '.join(unknown)}")
    if options.list:
        for breakage in BREAKAGES:
            print(f"{breakage.name:<46}{breakage.invariant:<6}{breakage.test}")
        return 0
    chosen = [known[name] for name in options.names or known]
    if options.explore:
        return _explore_all(chosen)
    if options.whole:
        return _whole_all(chosen)
    missed = 0
    for breakage in chosen:
        outcome = try_out(breakage)
        missed += not outcome.caught
        verdict = "caught" if outcome.caught else "NOT CAUGHT"
        print(
            f"{breakage.name} ({breakage.invariant}): {verdict} by {', '.join(outcome.failed) or 'no test'}"
        )
        print(f"    {outcome.reason or f'nothing says {breakage.says!r}: {outcome.told[:3]}'}", flush=True)
    print(f"{len(chosen) - missed} caught, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
