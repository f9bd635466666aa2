"""What the package needs: each dependency has a lowest version, and the pinned one is not below it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
SAFE = {"starlette": "1.0.1", "PyJWT": "2.12", "requests": "2.32.4", "jinja2": "3.1.6"}
# obstore before 0.11 knows no `aws_endpoint_url_s3`, msgspec's errors before 0.21 are no ValueError.
"""Below these, published advisories apply: of starlette, a Host header that decides about the path."""


def _versions(text: str) -> dict[str, str]:
    lines = [line.partition("==") for line in text.splitlines() if "==" in line]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in lines}


@pytest.fixture(scope="module")
def lowest() -> dict[str, str]:
    script = ROOT / "scripts" / "lowest-constraints"
    done = subprocess.run(
        [sys.executable, script, "test"], capture_output=True, text=True, check=True, timeout=60
    )
    return _versions(done.stdout)


def test_the_pinned_versions_are_allowed(lowest: dict[str, str]) -> None:
    pinned = _versions((ROOT / "constraints.txt").read_text())
    assert len(lowest) > 20
    assert {name: (low, pinned.get(name)) for name, low in lowest.items()} == {
        name: (low, pinned[name])
        for name, low in lowest.items()
        if name in pinned and Version(pinned[name]) >= Version(low)
    }


def test_the_lowest_versions_are_safe(lowest: dict[str, str]) -> None:
    for name, version in SAFE.items():
        assert Version(lowest[name.lower()]) >= Version(version), name
