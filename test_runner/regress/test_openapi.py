"""The OpenAPI descriptions that both services publish: complete, and true of what they do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from reattach.fixtures.env.builder import NeonEnvBuilder
from reattach.fixtures.env.env import NeonEnv
from reattach.fixtures.imports.bucket import ImportBucket
from test_runner.fuzz.judge import wrong_with
from test_runner.fuzz.pools import tame
from test_runner.regress import access_tables

EXAMPLES = 3
"""Of each operation, fitting and not fitting."""
SECONDS = 60

AnyCase: TypeAlias = Case[Any]

DESCRIBED = {
    "pageserver": {("GET", "/openapi.json"), ("GET", "/swagger.yml")}
    | access_tables.PAGESERVER_PUBLIC
    | access_tables.PAGESERVER_MANAGEMENT
    | access_tables.PAGESERVER_TENANT,
    "storage_controller": {("GET", "/openapi.json")}
    | access_tables.CONTROLLER_PUBLIC
    | access_tables.CONTROLLER.keys(),
}
PUBLIC = {
    "pageserver": {"/openapi.json", "/swagger.yml", "/v1/status", "/metrics"},
    "storage_controller": {"/openapi.json", "/status", "/live", "/ready", "/metrics"},
}


@pytest.fixture
def fuzzed(neon_env_builder: NeonEnvBuilder, import_bucket: ImportBucket) -> Iterator[NeonEnv]:
    """An environment of which nothing is expected but that it lives. Its imports know no S3 but the mock."""
    env = neon_env_builder.init_start()
    for service in env.services:
        service.allowed_errors.append(".*")
    yield env
    assert all(service.running for service in env.services)


def url_of(env: NeonEnv, service: str) -> str:
    port = env.pageserver.service_port.http if service == "pageserver" else env.storage_controller.port
    return f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("service", DESCRIBED)
def test_every_route_is_described(neon_simple_env: NeonEnv, service: str) -> None:
    """With who may use it and its parameters; the pageserver's under the real one's name, too."""
    url = url_of(neon_simple_env, service)
    document: dict[str, Any] = requests.get(f"{url}/openapi.json", timeout=SECONDS).json()
    operations = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert operations.keys() == {(m, path.replace(":path", "")) for m, path in DESCRIBED[service]}
    for (_, path), operation in operations.items():
        named = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
        assert named == [part.partition("}")[0] for part in path.split("{")[1:]]
    assert {path for (_, path), operation in operations.items() if not operation["security"]} == PUBLIC[
        service
    ]
    if service == "pageserver":
        assert requests.get(f"{url}/swagger.yml", timeout=SECONDS).json() == document


def _operations(url: str) -> Iterator[tuple[GenerationMode, st.SearchStrategy[AnyCase]]]:
    """What fits the description and what does not, of every operation that has anything to choose."""
    for result in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        yield GenerationMode.POSITIVE, operation.as_strategy()
        if operation.path_parameters or operation.query or operation.body:
            yield GenerationMode.NEGATIVE, operation.as_strategy(GenerationMode.NEGATIVE)


def _tamed(case: AnyCase, mode: GenerationMode) -> AnyCase:
    fits = mode is GenerationMode.POSITIVE
    if isinstance(case.body, dict | list):
        case.body = tame(case.body, fits=fits)
    case.path_parameters = tame(dict(case.path_parameters or {}), fits=fits)
    return case


def _is_not_understood(text: str) -> bool:
    """Except for what the description says of all bodies, and JSON Schema cannot say."""
    everywhere = ("a text with a NUL", "more than 64 bits", "got `float`")
    return "Failed to parse" in text and not any(reason in text for reason in everywhere)


@pytest.mark.parametrize("service", DESCRIBED)
def test_what_it_says_is_so(fuzzed: NeonEnv, service: str) -> None:
    """What fits it is understood, what does not is no 500, and errors look as they are described."""
    url = url_of(fuzzed, service)
    session = requests.Session()
    wrong: list[str] = []
    tried = 0

    def look(mode: GenerationMode, case: AnyCase) -> None:
        nonlocal tried
        tried += 1
        answer = session.request(**_tamed(case, mode).as_transport_kwargs(base_url=url), timeout=SECONDS)
        reason = wrong_with(answer.status_code, answer.content)
        if reason is None and mode is GenerationMode.POSITIVE and _is_not_understood(answer.text):
            reason = "it fits the description, and is not understood"
        if reason is not None:
            request = f"{mode.value} {case.method} {case.formatted_path} {case.body!r:.500}"
            wrong.append(f"{reason}: {request}: {answer.status_code} {answer.text[:300]}")

    how = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for mode, cases in _operations(url):
        how(given(st.just(mode), cases)(look))()
    assert not wrong, "\n".join(wrong[:20])
    assert tried > 2 * len(DESCRIBED[service])
