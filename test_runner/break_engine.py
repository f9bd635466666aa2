"""Breaks a copy of the engine on purpose, one breakage at a time, and says which test noticed.

./scripts/break                  all of them
./scripts/break --list
./scripts/break accept-stale-generation tell-before-durable
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from test_runner.breakages import BREAKAGES, Breakage

ROOT = Path(__file__).resolve().parent.parent

TEST_SECONDS = 300


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


def try_out(breakage: Breakage) -> Outcome:
    """Runs the breakage's tests against a broken copy. Raises DoesNotApply."""
    with tempfile.TemporaryDirectory(prefix="reattach-break-") as folder:
        tree = Path(folder)
        # PostgreSQL runs as another user, who has to get in.
        tree.chmod(0o755)
        copy_tree(tree)
        apply(breakage, tree)
        environment = {**os.environ, "PYTHONPATH": str(tree), "TEST_OUTPUT": str(tree / "test_output")}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", breakage.test]
        run = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TEST_SECONDS
        )
    output = run.stdout + run.stderr
    failed = tuple(re.findall(r"^(?:FAILED|ERROR) \S*?::(.+?)(?: - .*)?$", output, re.MULTILINE))
    told = [line.removeprefix("E").strip() for line in output.splitlines() if line.startswith("E ")]
    reason = next((line for line in told if breakage.says in line), None)
    return Outcome(breakage, failed, tuple(told), reason)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/break", description="Prove that the tests can fail.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="breakages to try; all by default")
    parser.add_argument("--list", action="store_true", help="list the breakages")
    options = parser.parse_args()
    known = {breakage.name: breakage for breakage in BREAKAGES}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no such breakage: {', '.join(unknown)}")
    if options.list:
        for breakage in BREAKAGES:
            print(f"{breakage.name:<36}{breakage.invariant:<6}{breakage.test}")
        return 0
    missed = 0
    for breakage in (known[name] for name in options.names or known):
        outcome = try_out(breakage)
        missed += not outcome.caught
        verdict = "caught" if outcome.caught else "NOT CAUGHT"
        print(
            f"{breakage.name} ({breakage.invariant}): {verdict} by {', '.join(outcome.failed) or 'no test'}"
        )
        print(f"    {outcome.reason or f'nothing says {breakage.says!r}: {outcome.told[:3]}'}", flush=True)
    print(f"{len(options.names or known) - missed} caught, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
