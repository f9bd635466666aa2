"""The list of failpoints is that of the places in the source, and nothing else can be set."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from reattach import pageserver
from reattach.api import pageserver_points
from reattach.api.controller_points import ALL_POINTS
from reattach.runtime.failpoints import Failpoints

CALLS = {"hit", "pausable", "sleep_for_returned_ms", "_fail_if_asked", "_interrupt_if_asked"}


def places() -> Iterator[str]:
    for path in Path(pageserver.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                point = str(node.args[0].value)
                name = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if name in CALLS:
                    yield point
                    if name == "_fail_if_asked" and path.name == "timeline_client.py":
                        yield f"{point}-pausable"


def test_the_list_is_complete() -> None:
    assert set(places()) == set(pageserver_points.POINTS)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("import-job-1-taken-pausable", True),
        ("import-job-12-taken-pausable", True),
        ("import-job-0-taken-pausable", False),
        ("import-job-x-taken-pausable", False),
        ("import-job-1-taken", False),
        ("api-503", True),
        ("", False),
    ],
)
def test_what_is_one(name: str, is_one: bool) -> None:
    assert pageserver_points.is_point(name) is is_one


def test_only_known_ones_can_be_set() -> None:
    """A name that no place has would make a test wait for nothing, or pass without what it is about."""
    failpoints = Failpoints()
    failpoints.configure("anything", "pause")
    failpoints.know(ALL_POINTS)
    failpoints.configure("reconciler-epilogue", "return")
    with pytest.raises(
        ValueError, match=r"there is no failpoint 'reconciler-epilog'; did you mean 'reconciler-epilogue'"
    ):
        failpoints.configure("reconciler-epilog", "return")
    with pytest.raises(ValueError, match="there is no failpoint 'no-such-point'"):
        failpoints.configure_from_env("reconciler-epilogue=off;no-such-point=off")
