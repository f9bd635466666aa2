"""How long the command that users type takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from test_runner.performance.lab import ROOT, Lab
from test_runner.performance.result import Result, Side, at_most, single

SERIAL_SECONDS, WORKERS_SECONDS = 60.0, 35.0
_SECONDS_IN_SUMMARY = re.compile(r"\b\d+ passed.* in (?P<seconds>[\d.]+)s")


def import_resume(lab: Lab) -> list[Result]:
    """`pytest -k import_resume`, serial and with two workers, its set-up (initdb, source data) included."""
    selected = "import_resume_again" if lab.quick else "import_resume"
    rows: list[tuple[str, list[str], float]] = [
        ("serial", [], SERIAL_SECONDS),
        ("2 workers", ["-n", "2"], WORKERS_SECONDS),
    ]
    return [
        single(
            f"pytest -k {selected}, {what}",
            Side("pytest", "s", (_seconds(lab, selected, options),)),
            at_most(budget, "s"),
        )
        for what, options, budget in rows
    ]


def _seconds(lab: Lab, selected: str, options: list[str]) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", selected, *options],
        cwd=ROOT,
        env={**_as_a_user(), "TEST_OUTPUT": str(lab.path("test_output"))},
        capture_output=True,
        text=True,
    )
    found = _SECONDS_IN_SUMMARY.search(done.stdout)
    if done.returncode != 0 or found is None:
        raise RuntimeError(f"the tests do not pass:\n{done.stdout[-4000:]}{done.stderr[-1000:]}")
    return float(found["seconds"])


def _as_a_user() -> dict[str, str]:
    """Not as the pytest in which this benchmark runs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
