"""The repository's own tests. The fixtures come from the installed plugin, as in any other project."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator

import pytest

pytest_plugins = ["pytester"]

KILL_POINT = "kill point"
"""The property in which a test says at which point it killed the storage controller."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", default=False, help="also run tests marked slow")
    parser.addoption(
        "--runprograms", action="store_true", default=False, help="also run tests of programs of others"
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What collecting makes stays until the end: looking at it again and again is a sixth of a short run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = {"slow": "--runslow", "programs": "--runprograms"}
    for marker, option in asked.items():
        if config.getoption(option):
            continue
        skip = pytest.mark.skip(reason=f"{marker}: runs with {option}")
        for item in items:
            if marker in item.keywords:
                item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Lists the points at which the storage controller was killed, and whether every import still ended."""
    points = {
        str(value): outcome
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for name, value in report.user_properties
        if name == KILL_POINT and report.when == "call"
    }
    if points:
        terminalreporter.section("points at which the storage controller was killed, and reached")
        for point, outcome in sorted(points.items()):
            terminalreporter.write_line(f"{point:<60}{outcome}")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT ends what the test starts, also where a shell runs this in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
