"""Where AWS credentials come from: the environment variables of the AWS tools."""

from __future__ import annotations

from collections.abc import Mapping

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_SOURCES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_METADATA_SWITCH = "AWS_EC2_METADATA_DISABLED"


class MissingCredentials(ValueError):
    """The environment names no source of AWS credentials."""


def require_credentials(environ: Mapping[str, str]) -> None:
    """Raises MissingCredentials unless the environment says where to get credentials.

    The instance metadata service is asked only where AWS_EC2_METADATA_DISABLED is set to `false`: it lies
    outside this machine, and on most machines there is nobody to answer.
    """
    if all(environ.get(key) for key in _KEYS) or any(environ.get(source) for source in _SOURCES):
        return
    if environ.get(_METADATA_SWITCH, "").lower() == "false":
        return
    raise MissingCredentials(
        f"no AWS credentials: set {' and '.join(_KEYS)}, or {_METADATA_SWITCH}=false to ask the instance"
    )
