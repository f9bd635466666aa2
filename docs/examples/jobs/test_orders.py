"""A job that calls an HTTP server: every request is two crash points."""

import sys
from pathlib import Path

import pytest
from werkzeug import Response

from reattach.fixtures.explore.plugin import DidNotSurvive
from reattach.fixtures.subjects.command import Command

ORDERS = Path(__file__).with_name("orders.py")


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
