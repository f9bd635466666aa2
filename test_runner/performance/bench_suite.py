"""How long the command that users type takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from test_runner.performance.lab import ROOT, Lab
from test_runner.performance.result import Result, Side, at_most, single

MAX_SECONDS = 60.0
RUNS = 3
_SECONDS_IN_SUMMARY = re.compile(r"\b\d+ passed.* in (?P<seconds>[\d.]+)s")


def import_resume(lab: Lab) -> list[Result]:
    """`pytest -k import_resume` with a worker for each core, its set-up (initdb, source data) included."""
    workers = len(os.sched_getaffinity(0))
    selected = "import_resume_again" if lab.quick else "import_resume"
    seconds = []
    for _ in range(1 if lab.quick else RUNS):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-k", selected, "-n", str(workers)],
            cwd=ROOT,
            env={**os.environ, "TEST_OUTPUT": str(lab.path("test_output"))},
            capture_output=True,
            text=True,
        )
        found = _SECONDS_IN_SUMMARY.search(done.stdout)
        if done.returncode != 0 or found is None:
            raise RuntimeError(f"the tests do not pass:\n{done.stdout[-4000:]}{done.stderr[-1000:]}")
        seconds.append(float(found["seconds"]))
    side = Side("pytest", "s", tuple(seconds))
    return [single(f"pytest -k {selected}, {workers} workers", side, at_most(MAX_SECONDS, "s"))]
