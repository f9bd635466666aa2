"""Which command lines the launcher runs without an exec: exactly our own."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from reattach.launcher import programs

HERE = Path(programs.BIN)


def test_every_program_is_a_file_that_runs_its_module() -> None:
    """The fork and the file do the same."""
    assert {path.name for path in HERE.iterdir()} == set(programs.PROGRAMS)
    for name, module in programs.PROGRAMS.items():
        assert os.access(HERE / name, os.X_OK)
        assert f" -m {module.removesuffix('.main')} " in (HERE / name).read_text()


def test_pip_installs_one_script() -> None:
    """Others would hide the real system's programs on PATH."""
    installed = [p.name for p in entry_points(group="console_scripts") if p.value.startswith("reattach.")]
    assert installed == ["reattach"]


@pytest.mark.parametrize("module", [*programs.PROGRAMS.values(), *programs.MODULES.values()])
def test_programs_can_be_loaded(module: str) -> None:
    assert callable(importlib.import_module(module).main)


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_script_of_this_interpreter(name: str) -> None:
    found = programs.find([str(HERE / name), "-D", "x"])
    assert found is not None
    assert found[0] == programs.PROGRAMS[name]


def test_module_of_this_interpreter() -> None:
    found = programs.find([sys.executable, "-m", "reattach.witness", "--listen", "x"])
    assert found is not None
    assert found[0] == "reattach.witness.main"


@pytest.mark.parametrize(
    "argv",
    [
        ["pageserver", "-D", "x"],
        ["/opt/bin/pageserver", "-D", "x"],
        [str(Path(sys.executable).parent / "pytest")],
        [sys.executable],
        [sys.executable, "-m"],
        [sys.executable, "-m", "http.server"],
        [sys.executable, "-c", "reattach.witness"],
        ["/usr/bin/python3", "-m", "reattach.witness"],
    ],
)
def test_everything_else_is_executed(argv: list[str]) -> None:
    assert programs.find(argv) is None
