"""JSON to typed values and back, for `msgspec.Struct`s that hold ids, LSNs and tagged values.

A class takes part by having `to_json(self)` and a classmethod `from_json(cls, value)`. It must not be a
dataclass: msgspec knows those itself and would not ask.
"""

from __future__ import annotations

from typing import TypeVar, overload

import msgspec

T = TypeVar("T")

DecodeError = msgspec.DecodeError
"""Raised for text that is not JSON, and (as its subclass ValidationError) for JSON of another shape."""


def _enc_hook(value: object) -> object:
    to_json = getattr(value, "to_json", None)
    if to_json is None:
        raise NotImplementedError(f"{type(value).__name__} has no JSON form")
    return to_json()


def _dec_hook(type_: type, value: object) -> object:
    if type_ is object:
        return value
    from_json = getattr(type_, "from_json", None)
    if from_json is None:
        raise NotImplementedError(f"{type_.__name__} cannot be read from JSON")
    return from_json(value)


_encoder = msgspec.json.Encoder(enc_hook=_enc_hook)


def encode(value: object) -> bytes:
    """The JSON text of `value`, compact, UTF-8."""
    return _encoder.encode(value)


def decode(raw: bytes | str, type_: type[T]) -> T:
    """Reads JSON text as `type_`. Raises DecodeError, which says where in the text and why."""
    try:
        return msgspec.json.decode(raw, type=type_, dec_hook=_dec_hook)
    except (RecursionError, UnicodeDecodeError) as e:
        raise DecodeError(str(e)) from None


@overload
def to_builtins(value: msgspec.Struct) -> dict[str, object]: ...


@overload
def to_builtins(value: object) -> object: ...


def to_builtins(value: object) -> object:
    """`value` as dicts, lists, strings and numbers."""
    return msgspec.to_builtins(value, enc_hook=_enc_hook)


def convert(value: object, type_: type[T]) -> T:
    """Builtins, as from `to_builtins`, as `type_`. Raises ValidationError."""
    try:
        return msgspec.convert(value, type=type_, dec_hook=_dec_hook)
    except RecursionError as e:
        raise msgspec.ValidationError(str(e)) from None
