"""Explorations as tests: subtests, JUnit, shares of workers, options."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from test_runner.inner import WITHOUT

ROOT = Path(__file__).parents[3]

EXPLORED = """
from test_runner.unit.explore.fake import FakeJob

def test_job(explore):
    explore(FakeJob(bug={bug!r})).assert_survives_every_crash()
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("TEST_OUTPUT", raising=False)
    return pytester


def explored(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    return project.runpytest_subprocess(*WITHOUT, *options)


def titles(junit: Path) -> list[str]:
    return sorted(case.get("name", "") for case in ElementTree.parse(junit).iter("testcase"))


def digests(names: list[str]) -> list[str]:
    return [name.partition("plan_")[2].rstrip("]") for name in names if "plan_" in name]


def test_each_plan_has_a_line_of_its_own_in_junit(project: pytest.Pytester) -> None:
    project.makepyfile(EXPLORED.format(bug="checkpoint first"))
    result = explored(project, "--junitxml=junit.xml", "-W", "error::pytest.PytestWarning")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    cases = {c.get("name"): c for c in ElementTree.parse(project.path / "junit.xml").iter("testcase")}
    plans = {name: case for name, case in cases.items() if name is not None and "plan_" in name}
    failed = {name for name, case in plans.items() if case.find("failure") is not None}
    assert len(plans) > len(failed) > 0
    texts = [plans[name].findtext("failure") or "" for name in failed]
    assert any("def test_fake_survives(replay, job):" in text for text in texts)


def test_workers_share_the_plans(project: pytest.Pytester) -> None:
    workers = 2
    project.makepyfile(EXPLORED.format(bug=""))
    together = explored(project, "--junitxml=together.xml", "-n", str(workers))
    assert together.ret == 0
    names = titles(project.path / "together.xml")
    assert [n for n in names if "plan_" not in n] == [
        f"test_job[share{index}of{workers}]" for index in range(1, workers + 1)
    ]
    plans = digests(names)
    assert len(plans) > workers
    assert len(set(plans)) == len(plans)


def test_a_plan_is_repeated_by_its_file(project: pytest.Pytester) -> None:
    project.makepyfile(EXPLORED.format(bug="checkpoint first"))
    assert explored(project).ret == pytest.ExitCode.TESTS_FAILED
    plan = next(project.path.glob("test_output/test_job/explore/failures/*/plan.json"))
    kept = project.path / "plan.json"
    kept.write_bytes(plan.read_bytes())
    other = explored(project, "--explore-plan=plan.json")
    other.assert_outcomes(skipped=1)
    settings = json.loads(kept.read_text())["settings"]
    project.makepyfile(EXPLORED.format(bug="checkpoint first").replace("FakeJob(", f"FakeJob(**{settings}, "))
    again = explored(project, "--explore-plan=plan.json")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*DidNotSurvive: wrong result*"])


def test_seed_and_budget_come_from_the_command_line(project: pytest.Pytester) -> None:
    """Equal seeds make equal plans, after those of the table."""
    project.makepyfile(EXPLORED.format(bug=""))
    seen = []
    for seed in (1, 1, 2):
        arguments = ("--junitxml=junit.xml", "--explore-budget=1", f"--explore-seed={seed}")
        assert explored(project, *arguments).ret == 0
        cases = ElementTree.parse(project.path / "junit.xml").iter("testcase")
        seen.append(digests([case.get("name", "") for case in cases]))
    common = min(map(len, seen))
    assert seen[0][:common] == seen[1][:common]
    assert 0 < len(set(seen[0][:common]) & set(seen[2][:common])) < common
