"""Bucket policies, as far as it must be one for moto not to fail of it at every later request."""

from __future__ import annotations

import json

from reattach.witness.s3.responses import S3Error


def check_policy(raw: bytes) -> None:
    """Raises S3Error (MalformedPolicy)."""
    try:
        policy = json.loads(raw)
    except (ValueError, RecursionError):
        raise _malformed("Policies must be valid JSON and the first byte must be '{'") from None
    if not isinstance(policy, dict):
        raise _malformed("Policies must be valid JSON and the first byte must be '{'")
    statements = policy.get("Statement")
    for statement in statements if isinstance(statements, list) else [statements]:
        if not isinstance(statement, dict):
            raise _malformed("Missing required field Statement")
        if statement.get("Effect") not in ("Allow", "Deny"):
            raise _malformed("Invalid effect")
        for field in ("Principal", "Action", "Resource"):
            value = statement.get(field, statement.get(f"Not{field}"))
            if not _is_named(value, field == "Principal"):
                raise _malformed(f"Missing required field {field}")


def _is_named(value: object, is_principal: bool) -> bool:
    if isinstance(value, str):
        return bool(value)
    if isinstance(value, list):
        return bool(value) and all(isinstance(entry, str) for entry in value)
    return is_principal and isinstance(value, dict) and bool(value)


def _malformed(message: str) -> S3Error:
    return S3Error(400, "MalformedPolicy", message)
