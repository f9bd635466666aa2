"""`spec.json`: which database to copy. Its connection strings are encrypted."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Kms(msgspec.Struct, frozen=True):
    key_id: str


class EncryptionSecret(msgspec.Struct, frozen=True):
    KMS: Kms


class Spec(msgspec.Struct, frozen=True):
    """The JSON of `spec.json`; other fields in it are for others."""

    encryption_secret: EncryptionSecret
    source_connstring_ciphertext_base64: bytes
    destination_connstring_ciphertext_base64: bytes | None = None


class Decrypt(Protocol):
    def __call__(self, key_id: str, ciphertext: bytes) -> bytes:
        """The plaintext. Raises whatever its service raises."""


def parse_spec(text: bytes) -> Spec:
    """Raises msgspec.ValidationError or msgspec.DecodeError, which say where and why."""
    return msgspec.json.decode(text, type=Spec)


def source_of(spec: Spec, decrypt: Decrypt) -> str:
    """The source's connection string. Raises what `decrypt` raises, and UnicodeDecodeError."""
    return decrypt(spec.encryption_secret.KMS.key_id, spec.source_connstring_ciphertext_base64).decode()


def destination_of(spec: Spec, decrypt: Decrypt) -> str | None:
    """The destination's connection string, if there is one. Raises as `source_of`."""
    ciphertext = spec.destination_connstring_ciphertext_base64
    return None if ciphertext is None else decrypt(spec.encryption_secret.KMS.key_id, ciphertext).decode()
