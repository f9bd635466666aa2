"""Programs that others wrote, in versions that stand still, each in an environment of its own."""

import fcntl
import hashlib
import shutil
import subprocess
import sys

import pytest

from reattach.fixtures.explore.explorer import Explorer

INSTALL_SECONDS = 300


@pytest.fixture(scope="session")
def python_with(pytestconfig):
    """`python_with("dlt[postgres]==1.11.0")`: a Python that has it. Made once, below pytest's cache.

    Where it cannot be had the test is skipped, with what pip says.
    """

    def python_with(*requirements):
        name = hashlib.sha256(repr((requirements, sys.version)).encode()).hexdigest()[:12]
        folder = pytestconfig.cache.mkdir("jobs") / name
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "complete").exists():
                install(folder, requirements)
                (folder / "complete").touch()
        return str(folder / "bin" / "python")

    return python_with


def install(folder, requirements):
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=INSTALL_SECONDS)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *requirements], capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode != 0:
        pytest.skip(f"{', '.join(requirements)} cannot be had: {done.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="session")
def program():
    """`program("rclone")`: the path of a program of this machine; without it the test is skipped."""

    def program(name):
        return shutil.which(name) or pytest.skip(f"there is no program {name}: apt-get install {name}")

    return program


@pytest.fixture
def first_failure(test_output_dir):
    """`first_failure(job)`: explores until something fails, and returns it, reduced."""

    def first_failure(job):
        explorer = Explorer(job, test_output_dir / "explore", alone=True, max_failures=1)
        for tried in explorer.runs():
            if tried.failure is not None:
                return tried.failure
        raise AssertionError(f"nothing was found: {explorer.report.summary()}")

    return first_failure
