"""What no answer may be, whatever was asked."""

from __future__ import annotations

import json
import re

MEANT = re.compile(
    rb"shard not found|Update request is unexpected|is deleted|was garbage collected"
    rb"|tenant is broken|reconciles are running|consistency failure|Reconcile error"
    rb"|iteration is already executing"
)
"""Of answers that are 500 in the real system, too: what was understood and cannot be carried out now."""


def wrong_with(status: int, body: bytes) -> str | None:
    """Why a service must not answer so; None if it may."""
    if status == 500 and (b"panicked" in body or MEANT.search(body) is None):
        return "a 500 that is not meant"
    if status > 503 or status in (501, 502):
        return "a status that nobody gives"
    if status >= 400:
        try:
            answer = json.loads(body)
        except ValueError:
            return "an error that is not JSON"
        if not isinstance(answer, dict) or list(answer) != ["msg"] or not answer["msg"]:
            return "an error without a message"
    return None
