"""Other packages, plugins and fixtures of the project, beside those of the library."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from test_runner.regress.guest.project import Project

APPLE = "import pytest\n\n@pytest.fixture\ndef apple():\n    return 1\n"


@pytest.mark.parametrize(
    "layout", ["tests/fixtures/fruit", "tests/fixtures", "fixtures/fruit", "fixtures", "site/fixtures/fruit"]
)
def test_a_project_with_fixtures_of_its_own(project: Project, layout: str) -> None:
    """A package or a module, below the tests or beside them, or one that is installed, as PyPI's is."""
    folder, _, name = layout.rpartition("/")
    if folder.endswith("fixtures"):
        (project.root / folder).mkdir(parents=True)
        (project.root / folder / "__init__.py").touch()
    project.write(**{layout.replace("/", "__"): APPLE})
    module = f"fixtures.{name}" if folder.endswith("fixtures") else "fixtures"
    project.write(
        tests__conftest=f"from {module} import apple\n",
        tests__test_apple="def test_apple(apple, run_id):\n    assert apple == 1 and run_id\n",
    )
    path = str(project.root / "site" if layout.startswith("site") else project.root)
    project.pytest("tests", env={"PYTHONPATH": path}).assert_passed(1)


UPSTREAM = """
from fixtures.common_types import TimelineId
from fixtures.neon_fixtures import NeonEnvBuilder
import fixtures.utils
import reattach.fixtures.utils

def test_it(neon_env_builder: NeonEnvBuilder, httpserver, httpserver_listen_address, make_httpserver):
    assert fixtures.utils is reattach.fixtures.utils
    assert isinstance(neon_env_builder, NeonEnvBuilder)
    assert isinstance(neon_env_builder.initial_timeline, TimelineId)
    assert (httpserver.host, httpserver.port) == httpserver_listen_address
    assert httpserver is make_httpserver
    port.append(httpserver.port)

def test_again(httpserver):
    assert [httpserver.port] != port

port = []
"""
OPT_IN = 'pytest_plugins = ["reattach.fixtures.as_fixtures"]\n'


def test_tests_of_the_public_systems_library(project: Project) -> None:
    project.write(test_it=UPSTREAM)
    refused = project.pytest().output
    # The second where the repository is on sys.path, in which the library's folder has that name.
    assert "No module named 'fixtures'" in refused or "reattach.fixtures.as_fixtures" in refused
    project.write(conftest=OPT_IN).pytest().assert_passed(2)


def test_both_at_once_is_told(project: Project) -> None:
    project.write(fixtures__fruit=APPLE, conftest=OPT_IN + "import fixtures.fruit\n")
    (project.root / "fixtures" / "__init__.py").touch()
    project.write(test_it="def test_it():\n    pass\n")
    assert "cannot be reattach's library as well" in project.pytest().output
    project.write(conftest=OPT_IN, test_it="from fixtures.fruit import apple\n")
    output = project.pytest().output
    assert "`fixtures` is reattach.fixtures here" in output and "is hidden by it" in output


HTTPSERVER = """
import pytest

@pytest.fixture(scope="session")
def api(make_httpserver, httpserver_listen_address, httpserver_ssl_context):
    return make_httpserver

def test_it(api, httpserver):
    assert api is httpserver and api.port

def test_ours(api, storage_controller_proxy, compute_reconfigure_listener):
    ports = {api.port, storage_controller_proxy.port(), compute_reconfigure_listener.server.port}
    assert len(ports) == 3
"""


def test_httpservers_fixtures_are_its_own(project: Project) -> None:
    project.write(test_it=HTTPSERVER).pytest().assert_passed(2)


GENERIC = (
    *("base_dir", "run_id", "launcher", "build_type", "pg_version", "engines", "control_plane", "pg_bin"),
    *("database_server", "port_distributor", "test_output_dir", "top_output_dir"),
)

WORKS = """
def test_it(neon_env_builder, import_bucket):
    neon_env_builder.init_start().start_import(import_bucket).wait_done()

def test_mine(control_plane, pg_version, launcher):
    assert (control_plane, pg_version, launcher) == ("mine", "mine", "mine")
"""


@pytest.mark.parametrize("scope", ["function", "session"])
def test_generic_names_are_the_projects_to_use(project: Project, scope: str) -> None:
    own = "".join(
        f"@pytest.fixture(scope='{scope}')\ndef {name}():\n    return 'mine'\n\n" for name in GENERIC
    )
    project.write(conftest="import pytest\n\n" + own, test_it=WORKS).pytest().assert_passed(2)


def test_parameters_of_the_project_are_its_own(project: Project) -> None:
    test = """
import pytest

@pytest.mark.parametrize("pg_version", ["a", "b"])
def test_it(pg_version):
    assert pg_version in "ab"

def test_generated(pg_version, run_id_of_mine):
    assert pg_version in "cd"
"""
    conftest = """
import pytest

@pytest.fixture
def run_id_of_mine():
    return 1

def pytest_generate_tests(metafunc):
    if metafunc.function.__name__ == "test_generated":
        metafunc.parametrize("pg_version", ["c", "d"])
"""
    run = project.write(test_it=test, conftest=conftest).pytest("-rA")
    run.assert_passed(4)
    assert sorted(re.findall(r"PASSED test_it\.py::(\S+)", run.output)) == [
        *("test_generated[c]", "test_generated[d]", "test_it[a]", "test_it[b]")
    ]


LATE = """
import unittest
import pytest

class TestCase(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def environment(self, neon_env_builder, import_bucket):
        self.timeline = neon_env_builder.init_start().start_import(import_bucket)

    def test_in_a_class(self):
        self.timeline.wait_done()

def test_by_name(request):
    request.getfixturevalue("neon_env_builder").init_start()

@pytest.mark.parametrize("kind", ["import_bucket", "local_import_bucket"])
def test_chosen_by_a_parameter(kind, neon_env_builder, request):
    env = neon_env_builder.init_start()
    bucket = request.getfixturevalue(kind)
    timeline = env.start_import(bucket)
    timeline.wait_done()
    timeline.assert_equals(bucket)

def test_a_fault_that_is_asked_for_late(neon_env_builder, request):
    env = neon_env_builder.init_start()
    bucket = request.getfixturevalue("import_bucket")
    faults = request.getfixturevalue("bucket_faults")
    faults.on(prefix=f"{bucket.prefix}/", times=1).status(503)
    env.start_import(bucket).wait_done()
"""


def test_fixtures_asked_for_late(project: Project) -> None:
    project.write(test_it=LATE).pytest().assert_passed(5)


def test_warnings_as_errors(project: Project) -> None:
    """What the library imports and does warns of nothing."""
    project.write(test_it="def test_it(neon_simple_env, mock_s3_client):\n    pass\n")
    project.pytest("-W", "error").assert_passed(1)


def test_two_workers_after_a_killed_run(project: Project) -> None:
    """What it has left goes, whoever of them comes first."""
    test = (
        "import pytest\n\n@pytest.mark.parametrize('n', range(4))\ndef test_it(n, pg_datasets):\n    pass\n"
    )
    project.write(test_it=test).pytest().assert_passed(4)
    cache = project.root / "test_output" / "cache"
    left = leave(cache)
    project.pytest("-n", "2").assert_passed(4)
    assert [path for path in left if path.exists()] == []


def leave(cache: Path) -> list[Path]:
    """Folders and locks of runs that were killed: each is one that both workers may come to at a time."""
    left = []
    for run in range(9):
        folder = cache / f"run-killed{run}"
        for number in range(100):
            inner = folder / "pgdata" / "base" / str(number)
            inner.mkdir(parents=True)
            for file in range(4):
                (inner / str(file)).touch()
        lock = folder.with_name(f"{folder.name}.lock")
        lock.touch()
        left += [folder, lock]
    return left
