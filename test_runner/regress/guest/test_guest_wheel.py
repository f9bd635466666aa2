"""The wheel, in an environment and a project that know nothing of this repository."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from test_runner.inner import WITHOUT

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 240

TESTS = """
import reattach
import fixtures

def test_the_wheel_is_used():
    assert "my venv" in reattach.__file__ and "my venv" in fixtures.__file__

def test_http(httpserver):
    assert httpserver.port

def test_import(neon_env_builder, import_bucket):
    timeline = neon_env_builder.init_start().start_import(import_bucket)
    timeline.wait_done()
    timeline.assert_equals(import_bucket)
"""


@pytest.mark.slow
def test_the_wheel_in_a_foreign_project(tmp_path: Path) -> None:
    """One package, one script, beside a package `fixtures` of somebody else, where paths have spaces."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", "dist", str(ROOT), cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()} == {
        "reattach",
        f"{wheel.name.partition('-py3')[0]}.dist-info",
    }
    home = tmp_path / "my venv"
    venv.create(home, symlinks=True)
    python = str(home / "bin" / "python")
    before = {path.name for path in (home / "bin").iterdir()}
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", str(wheel))
    assert {path.name for path in (home / "bin").iterdir()} - before == {"reattach"}
    (site,) = home.glob("lib/python3*/site-packages")
    # What it depends on is that of this environment, whose own .pth files, such as ours, do not count there.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "fixtures").mkdir()
    (site / "fixtures" / "__init__.py").touch()
    project = tmp_path / "my project"
    project.mkdir()
    (project / "test_it.py").write_text(TESTS)
    done = run(python, "-m", "pytest", "-q", *WITHOUT, "-n", "1", cwd=project)
    assert "3 passed" in done, done
    assert run(str(home / "bin" / "reattach"), "--help").startswith("Usage: reattach")


def run(*command: str, cwd: Path | None = None) -> str:
    """What a command prints. Raises AssertionError with that if it fails."""
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout
