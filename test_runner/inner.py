"""A run of pytest within a test."""

from __future__ import annotations

import sys

# It takes a third of a second to load, and no project has it by installing the library.
WITHOUT = ("-p", "no:cacheprovider", "-p", "no:schemathesis")

PYTEST = (sys.executable, "-m", "pytest", *WITHOUT)
"""The command."""
