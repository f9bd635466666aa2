"""A project of somebody else, in which the library is installed."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from test_runner.inner import PYTEST

RUN_SECONDS = 120


@dataclass(frozen=True)
class Run:
    """A run of pytest in the project."""

    returncode: int
    output: str

    @property
    def outcomes(self) -> dict[str, int]:
        """`passed`, `failed`, `errors`, ... as the last line counts them."""
        last = self.output.rstrip().rpartition("\n")[2]
        return Counter({what: int(count) for count, what in re.findall(r"(\d+) ([a-z]+)", last)})

    def assert_passed(self, count: int) -> None:
        """Every test passed, and there were so many. Raises AssertionError with the output."""
        assert (self.returncode, self.outcomes.get("passed")) == (0, count), self.output[-4000:]


class Project:
    """A folder with tests, in which pytest runs as a user starts it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def write(self, **texts: str) -> Project:
        """Files by name, `__` for `/`, with `.py` added."""
        for name, text in texts.items():
            path = self.root / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return self

    def pytest(self, *arguments: str, env: Mapping[str, str | None] | None = None, umask: int = -1) -> Run:
        """Runs pytest; `env` changes this process's environment, None removes a variable."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TEST_OUTPUT"))}
        for name, value in (env or {}).items():
            environment.pop(name, None)
            if value is not None:
                environment[name] = value
        done = subprocess.run(
            [*PYTEST, "-q", "--tb=short", *arguments],
            cwd=self.root,
            env=environment,
            umask=umask,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_SECONDS,
        )
        return Run(done.returncode, done.stdout)
