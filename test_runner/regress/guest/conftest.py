"""Fixtures of the tests that look at the library as a guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from test_runner.regress.guest.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    return Project(tmp_path / "project")
