"""Jobs in memory, for campaigns of which only the campaign is of interest: `--subject …cheap:right`."""

from __future__ import annotations

import pytest

from test_runner.unit.explore.fake import FakeJob


def right(request: pytest.FixtureRequest) -> FakeJob:
    """It survives everything."""
    return FakeJob()


def early(request: pytest.FixtureRequest) -> FakeJob:
    """It remembers what it has not done yet."""
    return FakeJob(bug="checkpoint first")
