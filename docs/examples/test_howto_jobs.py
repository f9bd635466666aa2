"""A job of one's own: every crash point of it is tried. See docs/jobs.md."""

import sys
from pathlib import Path

import pytest
from werkzeug import Response

from reattach.fixtures.explore.plugin import DidNotSurvive
from reattach.fixtures.subjects.command import Command

LOADER = Path(__file__).parent / "jobs" / "loader.py"
ORDERS = LOADER.with_name("orders.py")


@pytest.fixture
def loader(job_bucket, target_postgres):
    job_bucket.put("a", b"apple apricot")
    job_bucket.put("b", b"banana")

    def loader(how="right"):
        return Command(
            [sys.executable, str(LOADER), job_bucket.name, target_postgres.dsn, how],
            through=[job_bucket, target_postgres],
            check=lambda: target_postgres.assert_rows("fruit", 3, key="name"),
            name="loader",
            call=f'loader("{how}")',
        )

    return loader


@pytest.mark.parametrize("how", ["right"])
def test_my_loader_survives_every_crash(explore, loader, how):
    explore(loader(how)).assert_survives_every_crash()


@pytest.mark.parametrize(
    ("how", "step"),
    [
        ("checkpoint_first", "at loader > target: commit insert done #1, after: kill loader"),
        ("two_transactions", "at loader > target: commit copy fruit #1, after: kill loader"),
        ("in_memory", "at loader > target: commit copy fruit #1, after: kill loader"),
    ],
)
def test_a_wrong_loader_does_not(replay, loader, how, step):
    with pytest.raises(DidNotSurvive, match=r"wrong result: .*table fruit has"):
        replay(loader(how), step)


@pytest.fixture
def orders(job_http):
    orders = []

    def take(request):
        order = request.get_json(force=True)
        if "key" not in order or order not in orders:
            orders.append(order)
        return Response(status=201)

    def before_each_run(server):
        orders.clear()
        server.expect_request("/orders", method="POST").respond_with_handler(take)

    def check():
        fruits = [order["fruit"] for order in orders]
        assert fruits == ["apples", "bananas", "cherries"], f"the shop has {fruits}"

    job_http.prepare(before_each_run)

    def orders_by(how):
        return Command(
            [sys.executable, str(ORDERS), job_http.url, how],
            through=[job_http],
            check=check,
            faults=["kill", "network"],
            name="orders",
            call=f'orders("{how}")',
        )

    return orders_by


def test_orders_are_placed_once(explore, orders):
    explore(orders("right")).assert_survives_every_crash()


def test_orders_without_a_key_are_not(replay, orders):
    with pytest.raises(DidNotSurvive, match="'apples', 'apples'"):
        replay(orders("without_key"), "at orders > http: post /orders #1, after: lose answer")
