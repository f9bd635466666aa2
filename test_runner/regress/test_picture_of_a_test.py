"""The picture of a test, and the page of an exploration: kept, in Allure's report, in JUnit's file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from reattach.fixtures.explore.results import load_results
from reattach.fixtures.pytest_plugin.modules import FIXTURES
from test_runner.regress.guest.project import Project, Run

ROOT = Path(__file__).parents[2]

TESTS = """
from reattach.fixtures.imports.handle import after_job
from test_runner.unit.explore.fake import FakeJob


def interrupted(env, bucket):
    timeline = env.start_import(bucket, hold=after_job(3))
    timeline.wait_at(after_job(3))
    timeline.kill().start()
    timeline.wait_done()


def test_passes(neon_simple_env, import_bucket):
    interrupted(neon_simple_env, import_bucket)


def test_fails(neon_simple_env, import_bucket):
    interrupted(neon_simple_env, import_bucket)
    assert False, "it is drawn before the verdict"


def test_explored(explore):
    explore(FakeJob(bug="checkpoint first")).assert_survives_every_crash()
"""

KILLED = r"\d+\.\d{3} s: SIGKILL pageserver_1 \(.*\)"


@dataclass(frozen=True)
class Reported:
    root: Path
    run: Run

    def allure(self, test: str) -> dict[str, list[dict[str, object]]]:
        """What Allure's report has of a test."""
        for path in (self.root / "allure").glob("*-result.json"):
            result: dict[str, list[dict[str, object]]] = json.loads(path.read_text())
            if str(result["name"]).partition("[")[0] == test:
                return result
        raise AssertionError(f"Allure's report has no {test}")

    def page(self, attachment: dict[str, object]) -> str:
        return (self.root / "allure" / str(attachment["source"])).read_text()

    def fixtures(self) -> list[dict[str, Any]]:
        """Begins and ends of fixtures."""
        containers = [json.loads(p.read_text()) for p in (self.root / "allure").glob("*-container.json")]
        return [end for one in containers for end in [*one.get("befores", []), *one.get("afters", [])]]

    def of_fixtures(self) -> list[str]:
        """Names of what is attached to fixtures."""
        return [attachment["name"] for end in self.fixtures() for attachment in end.get("attachments", [])]

    def properties(self, test: str) -> list[tuple[str, str]]:
        """Of the test in JUnit's file."""
        for case in ElementTree.parse(self.root / "junit.xml").iter("testcase"):
            if case.get("name", "").partition("[")[0] == test and "plan_" not in case.get("name", ""):
                return [(p.get("name", ""), p.get("value", "")) for p in case.iter("property")]
        raise AssertionError(f"JUnit's file has no {test}")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    project = Project(tmp_path_factory.mktemp("reported")).write(test_it=TESTS)
    run = project.pytest(*("--alluredir=allure", "--junitxml=junit.xml"), env={"PYTHONPATH": str(ROOT)})
    assert run.outcomes["passed"] == 1, run.output
    return Reported(project.root, run)


@pytest.mark.parametrize("test", ["test_passes", "test_fails"])
def test_allure_has_it_on_the_test_itself(reported: Reported, test: str) -> None:
    """Once, and not below a fixture's end, with a step for each interruption."""
    result = reported.allure(test)
    (picture,) = [one for one in result["attachments"] if one["name"] == "picture.html"]
    assert picture["type"] == "text/html"
    page = reported.page(picture)
    assert "<svg" in page and "SIGKILL pageserver_1" in page
    assert [bool(re.fullmatch(KILLED, str(step["name"]))) for step in result["steps"]] == [True]
    assert "picture.html" not in reported.of_fixtures()


def test_allure_has_the_first_screen(reported: Reported) -> None:
    """The cause and the test's own lines, and nothing of the library's source."""
    details = reported.allure("test_fails")["statusDetails"]
    trace = str(details["trace"])  # type: ignore[call-overload]
    assert trace.startswith("E   ") and "it is drawn before the verdict" in trace.splitlines()[0]
    assert "fixtures/" not in trace and ": pass 1: " in trace
    causes = [line[4:] for line in trace.splitlines() if line.startswith("E   ")]
    assert details["message"] == "\n".join(causes), "what Allure shows first"  # type: ignore[call-overload]


def test_allure_shows_what_a_test_author_knows(reported: Reported) -> None:
    """No fixture of the library's machinery, unless it went wrong or has something attached."""
    parameters = [(one["name"], one["value"]) for one in reported.allure("test_fails")["parameters"]]
    assert [(name, str(value).isdecimal()) for name, value in parameters] == [("pg_version", True)]
    ends = reported.fixtures()
    names = {end["name"] for end in ends}
    assert {"neon_env_builder", "import_bucket"} <= names
    assert names & {"output_dir::0", "output_dir::1"}, "what it does after the test; pytest 9.0 counts from 0"
    assert not [name for name in names if str(name).startswith("_reattach")]
    with_lambda = {str(name).partition("::")[0] for name in names if str(name).endswith("::<lambda>")}
    assert not with_lambda & FIXTURES


def test_logs_stay_with_the_fixture(reported: Reported) -> None:
    assert any(name.endswith("pageserver.log") for name in reported.of_fixtures())


@pytest.mark.parametrize("test", ["test_passes", "test_fails"])
def test_junit_has_properties(reported: Reported, test: str) -> None:
    properties = dict(reported.properties(test))
    assert Path(properties["picture"]).name == "picture.html"
    assert re.fullmatch(KILLED, properties["interruption"])


def test_a_failing_test_names_its_picture(reported: Reported) -> None:
    """It is drawn before the verdict, and stays."""
    picture = Path(dict(reported.properties("test_fails"))["picture"])
    assert "<svg" in picture.read_text()
    assert str(picture) in reported.run.output


def test_an_exploration_has_its_table_in_allure(reported: Reported) -> None:
    """A step for each plan, with its own, and the picture of each new failure; no link leads out of it."""
    result = reported.allure("test_explored")
    (table,) = [one for one in result["attachments"] if one["name"] == "coverage.html"]
    page = reported.page(table)
    assert "fake, explored" in page and 'href="f' not in page and 'href="r' not in page
    folder = Path(dict(reported.properties("test_explored"))["coverage"]).parent
    failures = load_results(folder).failures
    pictures = [one for step in result["steps"] for one in step.get("attachments", [])]  # type: ignore[attr-defined]
    assert len(pictures) == len(failures) > 0
    for step in result["steps"]:
        assert re.fullmatch(r"plan [0-9a-f]{16}: (survived|wrong result: .*)", str(step["name"]))
        assert all(str(one["name"]).startswith("at job > store: ") for one in step["steps"])  # type: ignore[attr-defined]
    assert "coverage.html" not in reported.of_fixtures()


def test_pictures_of_tests_that_pass_where_they_are_asked_for(tmp_path: Path) -> None:
    text = TESTS.replace("checkpoint first", "")
    project = Project(tmp_path).write(test_it=text)
    run = project.pytest("--pictures=drawn", "-k", "passes or explored", env={"PYTHONPATH": str(ROOT)})
    run.assert_passed(2)
    pages = (tmp_path / "drawn").iterdir()
    drawn = {page.stem.partition("[")[0]: page for page in pages}
    assert drawn.keys() == {"test_passes", "test_explored"}
    assert "<svg" in drawn["test_passes"].read_text()
    assert "fake, explored" in drawn["test_explored"].read_text()
