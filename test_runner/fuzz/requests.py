"""Requests out of an OpenAPI description and random numbers: some right, some a little wrong, some lost."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from test_runner.fuzz.pools import POOLS, Json, tame

TEXTS = (
    *("", "x", "ü", "\0", "\n", "a" * 5000, "../..", "%00", "null", "-1", "1e9", "\u202e"),
    *("'\"`;--", "🙂" * 50),
)
_POWERS = tuple(2**bits for bits in (31, 32, 53, 63, 64, 70))
NUMBERS = (0, 1, -1, *_POWERS, 2**31 - 1, 2**63 - 1, -(2**63) - 1, 0.5, 1e300)
ODDITIES: tuple[Json, ...] = (None, True, False, [], {}, [[]], [None], {"": ""}, *TEXTS, *NUMBERS)
PATH_TEXTS = (
    "x",
    "..",
    "%00",
    "%2e%2e",
    "%ff",
    "%0a",
    "a" * 3000,
    "-1",
    "2" * 40,
    "%F0%9F%99%82",
    "*",
    ";x=1",
)
HEADERS: tuple[tuple[str, bytes], ...] = (
    ("X-Request-Id", b"\xff\xfe"),
    ("X-Request-Id", b"y" * 3000),
    ("Host", b"a/metrics?"),
    ("Authorization", b"Bearer x.y.z"),
    ("Content-Type", b"text/plain; charset=nonsense"),
    ("Expect", b"100-continue"),
    ("Accept-Encoding", b"gzip;q=nan"),
    ("Range", b"bytes=5-1"),
    ("Cookie", b"; " * 500),
)
RAW_BODIES = (
    b"",
    b"null",
    b"[",
    b"\xff\xfe\x00",
    b'"\\ud800"',
    b"1" * 5000,
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b"[" * 100_000,
    b'{"a":1,"a":2}',
    b"{}" * 100,
    b" " * 70_000,
    b'{"x":"' + b"y" * 300_000 + b'"}',
)


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, as bytes. what: for people."""

    what: str
    raw: bytes


class Requests:
    """An endless supply for one service."""

    def __init__(self, document: Mapping[str, Any], rng: random.Random) -> None:
        self._schemas = document["components"]["schemas"]
        self._rng = rng
        self._operations = [
            (method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]

    def next(self) -> Request:
        """Any request."""
        rng = self._rng
        method, path, operation = rng.choice(self._operations)
        if rng.random() < 0.02:
            method = rng.choice(("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"))
        target = re.sub(r"\{(\w+)\}", lambda match: self._path_part(match[1]), path)
        query = "&".join(self._query(p) for p in operation["parameters"] if p["in"] == "query")
        if query and rng.random() < 0.7:
            target += f"?{query}"
        body = self._body(operation.get("requestBody"))
        headers = {"Host": b"127.0.0.1", "Content-Length": str(len(body)).encode()}
        if rng.random() < 0.1:
            headers |= dict([rng.choice(HEADERS)])
        head = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in headers.items())
        raw = f"{method} {target} HTTP/1.1\r\n".encode("latin-1") + head + b"\r\n" + body
        return Request(f"{method} {target[:200]} {body[:300]!r}", raw)

    def _path_part(self, name: str) -> str:
        rng = self._rng
        if rng.random() < 0.1:
            return rng.choice(PATH_TEXTS)
        return quote(str(rng.choice(POOLS.get(name, ("x",)))), safe="")

    def _query(self, parameter: Mapping[str, Any]) -> str:
        rng, name = self._rng, parameter["name"]
        if rng.random() < 0.3:
            value = quote(str(rng.choice(ODDITIES))[:500], safe="")
        elif name in POOLS:
            value = str(rng.choice(POOLS[name]))
        else:
            value = quote(str(self._value(parameter["schema"], 0)), safe="")
        once = f"{name}={value}"
        return f"{once}&{name}=2" if rng.random() < 0.03 else once

    def _body(self, declared: Mapping[str, Any] | None) -> bytes:
        rng = self._rng
        if declared is None:
            return b"" if rng.random() < 0.9 else rng.choice(RAW_BODIES)
        if rng.random() < 0.1:
            return rng.choice(RAW_BODIES)
        value = tame(self._value(declared["content"]["application/json"]["schema"], 0))
        if rng.random() < 0.4:
            value = self._spoilt(value)
        raw = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
        return raw[: rng.randrange(len(raw) + 1)] if rng.random() < 0.03 else raw

    def _spoilt(self, value: Json) -> Json:
        """The value with one thing in it replaced or gone."""
        rng = self._rng
        if isinstance(value, dict) and value and rng.random() < 0.9:
            key = rng.choice(list(value))
            if rng.random() < 0.2:
                return {k: v for k, v in value.items() if k != key}
            return value | {key: self._spoilt(value[key])}
        if isinstance(value, list) and value and rng.random() < 0.7:
            index = rng.randrange(len(value))
            return [self._spoilt(v) if i == index else v for i, v in enumerate(value)]
        return rng.choice(ODDITIES)

    def _value(self, schema: Mapping[str, Any], depth: int) -> Json:
        """Something that fits, if chance will."""
        rng = self._rng
        if "$ref" in schema:
            return self._value(self._schemas[schema["$ref"].rpartition("/")[2]], depth)
        for choice in ("oneOf", "anyOf"):
            if choice in schema:
                return self._value(rng.choice(schema[choice]), depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return rng.choice(schema["enum"])
        kind = schema.get("type")
        if isinstance(kind, Sequence) and not isinstance(kind, str):
            kind = rng.choice(kind)
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return [self._value(schema.get("items", {}), depth + 1) for _ in range(rng.randrange(3))]
            case "integer":
                low, high = schema.get("minimum", -5), schema.get("maximum", 2**40)
                return rng.choice((low, high, rng.randint(low, min(high, low + 10))))
            case "string":
                return rng.choice(("0/1", "5" * 32, "00" * 18, "Active", "10s", *TEXTS))
            case "boolean":
                return rng.random() < 0.5
            case "null":
                return None
        return rng.choice(ODDITIES) if depth < 4 else 0

    def _object(self, schema: Mapping[str, Any], depth: int) -> Json:
        rng, required = self._rng, set(schema.get("required", ()))
        properties = schema.get("properties", {})
        optional = [name for name in properties if name not in required]
        chosen = [*required, *rng.sample(optional, min(len(optional), rng.randrange(4)))]
        found = {name: self._value(properties[name], depth + 1) for name in sorted(chosen)}
        if not properties and rng.random() < 0.5:
            found[rng.choice(("gc_period", "gc_horizon", "", "x"))] = rng.choice(ODDITIES)
        return found
