"""Which command lines the launcher runs without an exec: exactly our own."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from reattach.launcher import programs

HERE = Path(sys.executable).parent


def test_console_scripts_are_those_that_pip_installs() -> None:
    installed = {
        point.name: point.value
        for point in entry_points(group="console_scripts")
        if "reattach." in point.value
    }
    assert installed == {name: f"{module}:main" for name, module in programs.CONSOLE_SCRIPTS.items()}


@pytest.mark.parametrize("module", [*programs.CONSOLE_SCRIPTS.values(), *programs.MODULES.values()])
def test_programs_can_be_loaded(module: str) -> None:
    assert callable(importlib.import_module(module).main)


@pytest.mark.parametrize("name", programs.CONSOLE_SCRIPTS)
def test_script_of_this_interpreter(name: str) -> None:
    found = programs.find([str(HERE / name), "-D", "x"])
    assert found is not None
    assert found[0] == programs.CONSOLE_SCRIPTS[name]


def test_module_of_this_interpreter() -> None:
    found = programs.find([sys.executable, "-m", "reattach.import_bucket", "--listen", "x"])
    assert found is not None
    assert found[0] == "reattach.import_bucket.main"


@pytest.mark.parametrize(
    "argv",
    [
        ["pageserver", "-D", "x"],
        ["/opt/bin/pageserver", "-D", "x"],
        [str(HERE / "pytest")],
        [sys.executable],
        [sys.executable, "-m"],
        [sys.executable, "-m", "http.server"],
        [sys.executable, "-c", "reattach.import_bucket"],
        ["/usr/bin/python3", "-m", "reattach.import_bucket"],
    ],
)
def test_everything_else_is_executed(argv: list[str]) -> None:
    assert programs.find(argv) is None
