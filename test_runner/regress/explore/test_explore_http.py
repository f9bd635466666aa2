"""A job that calls an HTTP server, in a test and on the command line."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from reattach.fixtures.explore.explorer import Explorer
from reattach.fixtures.explore.plugin import DidNotSurvive, Replay
from reattach.fixtures.subjects.command import Command, JobHttp
from test_runner.regress.explore.test_explore_postgres import run_cli

ORDERS = Path(__file__).parents[3] / "docs/examples/jobs/orders.py"

SHOP = """
from werkzeug import Response

orders = []

def prepare(server):
    orders.clear()
    server.expect_request("/orders").respond_with_handler(take)

def take(request):
    order = request.get_json(force=True)
    if "key" not in order or order not in orders:
        orders.append(order)
    return Response(status=201)

def contents():
    return {"orders": " ".join(order["fruit"] for order in orders)}
"""


@pytest.fixture
def taken(job_http: JobHttp) -> list[str]:
    """The orders that the shop has, by their text."""
    found: list[str] = []

    def take(request: Request) -> Response:
        found.append(request.get_data(as_text=True))
        return Response(status=201)

    def prepare(server: HTTPServer) -> None:
        found.clear()
        server.expect_request("/orders").respond_with_handler(take)

    job_http.prepare(prepare)
    return found


def command(job_http: JobHttp, faults: tuple[str, ...] = ("kill",)) -> Command:
    argv = [sys.executable, str(ORDERS), job_http.url, "right"]
    return Command(argv, check=lambda: None, through=[job_http], faults=faults, name="orders")


def test_every_request_is_two_crash_points(
    job_http: JobHttp, taken: list[str], test_output_dir: Path
) -> None:
    """Killed, or without an answer, before and after each of three."""
    explorer = Explorer(command(job_http, faults=("kill", "network")), test_output_dir / "explore")
    assert [tried.failure for tried in explorer.runs() if tried.failure is not None] == []
    # Before: kill, with what was in flight lost or performed, drop, 503. After: kill, lose the answer.
    assert explorer.report.coverage.numbers() == (3 * 6, 0, 0)


def test_who_gives_up_at_each_fault_is_not_stuck(
    job_http: JobHttp, taken: list[str], test_output_dir: Path
) -> None:
    """The job ends whenever a request fails, more often in one run than it may by itself."""
    explorer = Explorer(command(job_http, faults=("network",)), test_output_dir / "explore")
    runs = [tried.result for tried in explorer.runs()]
    assert [run.sentence() for run in runs] == ["survived"] * len(runs)
    assert max(len(run.hits) for run in runs) > command(job_http).reruns + 1


def test_what_is_before_is_not_done_and_what_is_after_is(
    job_http: JobHttp, taken: list[str], replay: Replay
) -> None:
    for step, orders in (("before: drop", 3), ("before: answer 503", 3), ("after: lose answer", 4)):
        replay(command(job_http, faults=("network",)), f"at orders > http: post /orders #2, {step}")
        assert len(taken) == orders, step


def test_a_handler_that_fails_is_no_fault_of_the_job(job_http: JobHttp, replay: Replay) -> None:
    def broken(request: Request) -> Response:
        raise LookupError("the test's own mistake")

    job_http.prepare(lambda server: server.expect_request("/orders").respond_with_handler(broken))
    with pytest.raises(DidNotSurvive):
        replay(command(job_http), "at orders > http: post /orders #1, after: kill orders")
    with pytest.raises(LookupError, match="the test's own mistake"):
        job_http.reset()
    job_http.server.clear()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.py"
    path.write_text(SHOP)
    return path


def test_on_the_command_line(shop: Path) -> None:
    """Found without a check, by what the server says that it has; and repeated by the plan's file.

    The command names a file beside it, though the job's working directory is another.
    """
    shutil.copy(ORDERS, shop.parent)
    job = shlex.join([sys.executable, ORDERS.name, "{http}", "without_key"])
    arguments = ["--command", job, "--http", "shop.py", "--fault", "network", "--failures", "1"]
    explored = run_cli("explore", *arguments, "--output", "out", cwd=shop.parent)
    assert explored.returncode == 1, explored.stdout + explored.stderr
    assert "after: lose answer" in explored.stdout
    assert "apples apples" in explored.stdout
    plan = next((shop.parent / "out/explore/failures").glob("*/plan.json"))
    elsewhere = shop.parent / "elsewhere"
    elsewhere.mkdir()
    again = run_cli("replay", str(plan), cwd=elsewhere)
    assert again.returncode == 1, again.stdout + again.stderr
    assert "wrong result: " in again.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prepare = 1", "shop.py has no function prepare(server)"),
        ("1 / 0", "shop.py cannot be run: ZeroDivisionError"),
        ("def prepare(server): pass", "--check is missing, and "),
        ("def prepare(server): pass\ncontents = 1", "contents is no function"),
    ],
)
def test_a_file_that_says_nothing_is_told(shop: Path, text: str, says: str) -> None:
    shop.write_text(text)
    ended = run_cli(
        "explore",
        "--command",
        shlex.join([sys.executable, "x", "{http}"]),
        "--http",
        "shop.py",
        cwd=shop.parent,
    )
    assert ended.returncode == 2
    assert says in " ".join(ended.stderr.split())
