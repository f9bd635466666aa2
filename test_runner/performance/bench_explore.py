"""How fast imports are explored: interruptions a second, each judged, and the time of the whole table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from test_runner.performance.lab import ROOT, Lab
from test_runner.performance.result import Result, Side, at_least, at_most, single

CYCLES_PER_SECOND = 5.0
TABLE_SECONDS = 60.0
SECONDS = 30


def explorations(lab: Lab) -> list[Result]:
    """`reattach explore` with a process for each core: for half a minute, and until every cell was tried."""
    workers = len(os.sched_getaffinity(0))
    timed = _explore(lab.path("timed"), workers, ["--budget", "10" if lab.quick else str(SECONDS)])
    results = [
        single(
            f"explored imports, {workers} processes: interruptions, each judged",
            Side("reattach explore", "/s", (timed["interruptions"] / timed["seconds"],)),
            at_least(CYCLES_PER_SECOND, "/s"),
        )
    ]
    if not lab.quick:
        whole = _explore(lab.path("whole"), workers, [])
        tried = [cell for cell in whole["cells"] if cell["state"] != "not tried"]
        results.append(
            single(
                f"explored imports, {workers} processes: {len(tried)} of {len(whole['cells'])} cells",
                Side("reattach explore", "s", (whole["seconds"],)),
                at_most(TABLE_SECONDS, "s"),
            )
        )
    return results


def _explore(output: Path, workers: int, more: Sequence[str]) -> Any:
    """What `coverage.json` says. Raises RuntimeError if something failed."""
    command = [sys.executable, "-m", "reattach.fixtures.cli", "explore", "--workers", str(workers)]
    done = subprocess.run(
        [*command, "--seed", "1", "--output", str(output), *more], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"the exploration ends with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-1000:]}"
        )
    return json.loads((output / "explore" / "coverage.json").read_text())
