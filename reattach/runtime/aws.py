"""Where AWS credentials come from: the environment variables of the AWS tools."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_SOURCES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_METADATA_SWITCH = "AWS_EC2_METADATA_DISABLED"


_CREDENTIALS = (
    *_KEYS,
    *_SOURCES,
    _METADATA_SWITCH,
    "AWS_SESSION_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_ENDPOINT_URL_STS",
    "AWS_METADATA_ENDPOINT",
)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def explicit_endpoint(url: str) -> dict[str, object]:
    """The settings of an S3 client that asks `url`, whatever the environment says."""
    return {
        "aws_endpoint": url,
        "aws_endpoint_url_s3": url,
        "aws_virtual_hosted_style_request": False,
        "aws_s3_express": False,
        "aws_skip_signature": False,
    }


def is_plain(endpoint: str | None) -> bool:
    """Whether nothing is encrypted there.

    Its client must not look for the certificates of this machine: where there are none it could not be made.
    """
    return endpoint is not None and endpoint.startswith("http://")


def keep_credentials_only(environ: MutableMapping[str, str]) -> list[str]:
    """Removes what says anything about S3 but how to log in. Returns the names.

    For processes that are told their endpoints: the environment is then that of a person who works with
    another store.
    """
    others = sorted(name for name in environ if name.startswith("AWS_") and name not in _CREDENTIALS)
    for name in others:
        del environ[name]
    return others


def bypass_proxies(environ: MutableMapping[str, str]) -> None:
    """No proxy is asked for what is on this machine."""
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in environ.get(name, "").split(",") if host]
        environ[name] = ",".join([*hosts, *(host for host in _LOOPBACK if host not in hosts)])


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
