"""JSON calls to one server."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any

TIMEOUT = 60.0


class NoAnswer(Exception):
    """The server is not there, or went away before it answered."""


class Refused(Exception):
    """The server answered with an error. `status` and `msg` are its."""

    def __init__(self, request: str, status: int, body: Any) -> None:
        self.status = status
        self.msg = body.get("msg") if isinstance(body, dict) else None
        super().__init__(f"{request}: {status} {body!r}")


class Api:
    """port: asked each time, for servers that come and go."""

    def __init__(self, port: Callable[[], int]) -> None:
        self._port = port

    def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, timeout: float = TIMEOUT
    ) -> tuple[int, Any]:
        """Status and body. Raises NoAnswer."""
        status, raw = self.call_raw(method, path, body, token=token, timeout=timeout)
        return status, json.loads(raw) if raw else None

    def call_raw(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, timeout: float = TIMEOUT
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port(), timeout=timeout)
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, raw, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as e:
            raise NoAnswer(f"{method} {path}: {e!r}") from e
        finally:
            connection.close()

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        """The body of a 2xx answer. Raises NoAnswer, Refused."""
        status, answer = self.call(method, path, body)
        if not 200 <= status < 300:
            raise Refused(f"{method} {path}", status, answer)
        return answer
