"""The command `reattach`: each of its commands is there, and costs what it needs and no more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from reattach.api.history import encode_line
from reattach.fixtures.cli.main import COMMANDS, main
from reattach.fixtures.cli.subject_options import from_here
from test_runner.unit.judge.story import interrupted

HEAVY = {"boto3", "moto", "numpy", "psycopg", "pytest", "requests", "rich"}

LOADED = """
import json, sys
from reattach.fixtures.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps(sorted(sys.modules)))
"""


def modules(*arguments: str) -> set[str]:
    """What a command has imported."""
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    loaded: list[str] = json.loads(ran.stdout.splitlines()[-1])
    assert ran.returncode in (0, 1, 3), ran.stderr
    return set(loaded)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_command_is_called_as_it_is_listed(name: str) -> None:
    found = main.get_command(click.Context(main), name)
    assert found is not None and found.name == name


def test_a_list_of_commands_imports_none_of_them() -> None:
    loaded = modules("--help")
    assert not loaded & HEAVY
    assert {one for one in loaded if one.startswith("reattach.")} == {
        *("reattach.fixtures", "reattach.fixtures.cli", "reattach.fixtures.cli.main")
    }


@pytest.mark.parametrize("command", ["judge", "show"])
def test_a_history_is_read_without_what_makes_one(command: str, tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    history.write_bytes(b"".join(map(encode_line, interrupted().lines)))
    assert not modules(command, str(history)) & HEAVY


@pytest.mark.parametrize("command", ["up", "import", "kill", "faults"])
def test_what_is_asked_of_a_cloud_needs_no_test_machinery(command: str) -> None:
    assert not modules(command, "--help") & HEAVY


@pytest.mark.parametrize(
    ("command", "seen"),
    [
        ("python loader.py {dsn} --to=loader.py", "python HERE/loader.py {dsn} --to=loader.py"),
        ("bin/tool 'a b.sql' data 'no such'", "HERE/bin/tool 'HERE/a b.sql' data 'no such'"),
        ("loader.py 'x  y'", "loader.py 'x  y'"),
        (f"psql -c 'select {'1' * 5000}'", f"psql -c 'select {'1' * 5000}'"),
    ],
)
def test_files_that_a_command_names_are_those_of_here(
    command: str, seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its working directory is another."""
    monkeypatch.chdir(tmp_path)
    for folder in ("bin", "data"):
        (tmp_path / folder).mkdir()
    for name in ("loader.py", "a b.sql", "bin/tool"):
        (tmp_path / name).touch()
    assert from_here(command) == seen.replace("HERE", str(tmp_path))
