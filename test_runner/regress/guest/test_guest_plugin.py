"""The plugin in a project that uses nothing of it, and the moment at which it is there."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from reattach.fixtures.pytest_plugin.modules import FIXTURES
from test_runner.regress.guest.project import Project

PLAIN = "def test_plain():\n    pass\n"
BUDGET_SECONDS = 0.03

LOADED = """
import json, sys
from pathlib import Path

def pytest_unconfigure():
    Path("modules.json").write_text(json.dumps(sorted(sys.modules)))
"""


def modules(project: Project, *arguments: str) -> set[str]:
    """What a run of a plain test has imported."""
    project.write(test_it=PLAIN, conftest=LOADED).pytest(*arguments).assert_passed(1)
    loaded: list[str] = json.loads((project.root / "modules.json").read_text())
    return set(loaded)


@pytest.mark.parametrize("options", [[], ["-p", "no:xdist"]], ids=["default", "no xdist"])
def test_a_plain_test_pays_for_nothing(project: Project, options: list[str]) -> None:
    """Only the plugin's entry is imported, and no file is made."""
    ours = modules(project, *options) - modules(project, "-p", "no:reattach", *options)
    assert {name for name in ours if not name.startswith("reattach")} == set()
    assert {name for name in ours if name.startswith("reattach.")} == {
        "reattach.fixtures",
        "reattach.fixtures.pytest_plugin",
        "reattach.fixtures.pytest_plugin.entry",
        "reattach.fixtures.pytest_plugin.lazy",
        "reattach.fixtures.pytest_plugin.modules",
        "reattach.fixtures.pytest_plugin.names",
        "reattach.fixtures.pytest_plugin.plan_lines",
    }
    assert {path.name for path in project.root.iterdir()} <= {
        *("test_it.py", "conftest.py", "modules.json", "__pycache__")
    }


def test_the_entry_costs_little() -> None:
    """Less than 30 ms: the best of ten, since others run on the machine too."""
    code = "import pytest, time; t = time.perf_counter(); import reattach.fixtures.pytest_plugin.entry; "
    code += "print(time.perf_counter() - t)"
    seconds = []
    for _ in range(10):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds.append(float(done.stdout))
        if min(seconds) < BUDGET_SECONDS:
            break
        time.sleep(0)
    assert min(seconds) < BUDGET_SECONDS, seconds


HARMFUL = {
    "TEST_OUTPUT": "/proc/nowhere",
    "NEON_BIN": "/nowhere",
    "DEFAULT_PG_VERSION": "9.6",
    "POSTGRES_DISTRIB_DIR": "/nowhere",
    "DATABASE_URL": "no url",
    "BUILD_TYPE": "debug",
    "SANITIZERS": "enabled",
    "ENABLE_REAL_S3_REMOTE_STORAGE": "1",
    "AWS_PROFILE": "nobody",
    "PGSERVICE": "none",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "RUST_LOG": "nonsense=",
}


def test_no_variable_harms_a_plain_test(project: Project) -> None:
    slow = "import pytest\n\n@pytest.mark.slow\ndef test_slow():\n    pass\n"
    run = project.write(test_it=PLAIN + slow).pytest(
        "-W", "error", "-W", "ignore::pytest.PytestWarning", env=HARMFUL
    )
    run.assert_passed(2)
    assert "engines" not in run.output


def test_items_of_others_are_left_alone(project: Project) -> None:
    """Doctests, a plugin's own items, and tests where nothing can be written."""
    project.write(
        fruit='def apple():\n    """\n    >>> apple()\n    1\n    """\n    return 1\n',
        conftest="""
import pytest

class Item(pytest.Item):
    def runtest(self):
        pass

class File(pytest.File):
    def collect(self):
        yield Item.from_parent(self, name="own")

def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".own":
        return File.from_parent(parent, path=file_path)
""",
    )
    (project.root / "it.own").touch()
    project.pytest("--doctest-modules", env={"TEST_OUTPUT": "/proc/nowhere"}).assert_passed(2)


def test_help_and_fixtures_show_ours(project: Project) -> None:
    project.write(test_it=PLAIN)
    shown = project.pytest("--help").output
    assert "--preserve-database-files" in shown and "--keep-running" in shown
    assert "every_pg_version" in project.pytest("--markers").output
    shown = project.pytest("--fixtures", "--no-header", env=HARMFUL).output
    assert [name for name in sorted(FIXTURES) if f"\n{name}" not in shown] == []


def test_every_fixture_is_known_by_name(request: pytest.FixtureRequest) -> None:
    """A fixture that is missing in the list could not be asked for."""
    request.getfixturevalue("run_id")  # loads all
    manager = request.session._fixturemanager
    found = {
        definition.argname
        for name in dir(manager)
        if name.startswith("_arg2")
        for definition in _definitions(getattr(manager, name))
        if definition.func.__module__.startswith("reattach.fixtures")
        and not definition.argname.startswith("_")
    }
    assert found == FIXTURES


def _definitions(table: object) -> list[pytest.FixtureDef[object]]:
    if isinstance(table, pytest.FixtureDef):
        return [table]
    if isinstance(table, dict):
        return [one for value in table.values() for one in _definitions(value)]
    if isinstance(table, list | tuple):
        return [one for value in table for one in _definitions(value)]
    return []


WAYS = {
    "argument": "def test_it(run_id):\n    assert run_id\n",
    "mark": "import pytest\n\n@pytest.mark.usefixtures('run_id')\ndef test_it():\n    pass\n",
    "value": "def test_it(request):\n    assert request.getfixturevalue('run_id')\n",
    "computed": "def test_it(request):\n    assert request.getfixturevalue('_'.join(['run', 'id']))\n",
    "own fixture": """
import pytest

@pytest.fixture(autouse=True)
def mine(run_id):
    return run_id

def test_it(mine):
    assert mine
""",
    "TestCase": """
import unittest, pytest

class Test(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def mine(self, run_id):
        self.mine = run_id

    def test_it(self):
        assert self.mine
""",
    "after another's": "def test_it(mine, run_id):\n    assert mine == 'mine' and run_id\n",
}


@pytest.mark.parametrize(
    "options", [[], ["-n", "1"], ["-p", "no:xdist"]], ids=["default", "xdist", "no xdist"]
)
def test_every_way_of_asking(project: Project, options: list[str]) -> None:
    for name, text in WAYS.items():
        project.write(**{f"test_{name.replace(' ', '_')}".replace("'", ""): text})
    project.write(conftest="import pytest\n\n@pytest.fixture\ndef mine():\n    return 'mine'\n")
    project.pytest(*options).assert_passed(len(WAYS))


@pytest.mark.parametrize("way", ["conftest", "ini"])
def test_asked_for_by_the_project(project: Project, way: str) -> None:
    project.write(test_it="def test_it(request):\n    assert 'run_id' in request.fixturenames\n")
    if way == "ini":
        (project.root / "pytest.ini").write_text("[pytest]\nusefixtures = run_id\n")
    else:
        project.write(
            conftest="import pytest\n\n@pytest.fixture(autouse=True)\ndef mine(run_id):\n    pass\n"
        )
    project.pytest().assert_passed(1)


def test_pytest_within_a_test(project: Project) -> None:
    """In one process: the inner run has ended, and the outer one's processes still run."""
    test = """
pytest_plugins = ["pytester"]

def test_outer(neon_simple_env, pytester, launcher):
    pytester.makepyfile("def test_inner(neon_simple_env): assert neon_simple_env.pageserver.is_running()")
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert neon_simple_env.pageserver.is_running()

def test_plain_inner(pytester):
    pytester.makepyfile("def test_inner(): pass")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)
    assert not (pytester.path / "test_output").exists()
"""
    (project.root / "conftest.py").write_text('pytest_plugins = ["pytester"]\n')
    project.write(test_it=test.replace('pytest_plugins = ["pytester"]\n', "")).pytest().assert_passed(2)
