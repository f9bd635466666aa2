"""What the plugin costs a run of pytest that does not use it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from test_runner.performance.lab import Lab
from test_runner.performance.result import Result, Side, at_most, single

PLUGIN = "reattach"
MAX_SECONDS = 0.030
RUNS = 25


def unused(lab: Lab) -> Iterator[Result]:
    """A run of one empty test, with the plugin and with `-p no:reattach`: processor time of the one more."""
    project = lab.path("project")
    project.mkdir()
    (project / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    pairs = [(_seconds(project), _seconds(project, "-p", f"no:{PLUGIN}")) for _ in lab.runs(RUNS)]
    more = tuple(sorted(with_it - without for with_it, without in pairs))
    yield single(
        "plugin in a run that does not use it", Side("pytest, more", "s", more), at_most(MAX_SECONDS, "s")
    )


def _seconds(project: Path, *options: str) -> float:
    before = _used()
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(project),
        *options,
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    subprocess.run(argv, cwd=project, env=environment, check=True, capture_output=True)
    return _used() - before


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
