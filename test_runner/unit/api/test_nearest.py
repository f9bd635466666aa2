"""What a wrong name was meant to be."""

from __future__ import annotations

import pytest

from reattach.api.nearest import did_you_mean

KNOWN = ["num_pageservers", "num_safekeepers", "auth_enabled"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("num_pageserver", "; did you mean 'num_pageservers'?"),
        ("auth_enable", "; did you mean 'auth_enabled'?"),
        ("num_keepers", "; did you mean 'num_safekeepers' or 'num_pageservers'?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_the_nearest_names(name: str, said: str) -> None:
    assert did_you_mean(name, KNOWN) == said
