"""The import bucket in S3."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARALLEL_UPLOADS = 10
MAX_ATTEMPTS = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class S3Prefix:
    """`s3://bucket/key`: the folder of one import."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> S3Prefix:
        """Raises ValueError. A slash at the end makes no difference."""
        scheme, _, rest = text.partition("://")
        bucket, slash, key = rest.partition("/")
        if scheme != "s3" or not slash or not bucket:
            raise ValueError(f"not like s3://bucket/key: {text}")
        return cls(bucket, key.rstrip("/"))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def object_key(self, name: str) -> str:
        """The key of an object of the import."""
        return f"{self.key}/{name}"


class ImportBucket:
    """Reads and writes the objects of one import. Region, endpoint and credentials come from AWS's
    variables."""

    def __init__(self, prefix: S3Prefix) -> None:
        import boto3  # slow to import, and not needed without a bucket
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "max_attempts": MAX_ATTEMPTS},
            max_pool_connections=PARALLEL_UPLOADS,
        )
        self._prefix = prefix
        # The AWS SDKs of other languages read this variable, boto3 another one only.
        region = os.environ.get("AWS_REGION")
        self._s3: Any = boto3.client("s3", region_name=region, config=config)
        self._kms: Any = boto3.client("kms", region_name=region, config=config)

    def get(self, name: str) -> bytes:
        """Raises botocore's errors."""
        answer = self._s3.get_object(Bucket=self._prefix.bucket, Key=self._prefix.object_key(name))
        content: bytes = answer["Body"].read()
        return content

    def put(self, name: str, content: bytes) -> None:
        """Raises botocore's errors."""
        self._s3.put_object(Bucket=self._prefix.bucket, Key=self._prefix.object_key(name), Body=content)

    def put_tree(self, directory: Path, name: str) -> int:
        """Uploads every regular file below a directory to `name/...` and returns their number.

        Raises the first error, as soon as there is one; the upload is incomplete then.
        """
        with ThreadPoolExecutor(PARALLEL_UPLOADS) as pool:
            uploads = [
                pool.submit(self._put_file, path, f"{name}/{path.relative_to(directory).as_posix()}")
                for path in files_below(directory)
            ]
            done, waiting = wait(uploads, return_when=FIRST_EXCEPTION)
            for upload in waiting:
                upload.cancel()
            for upload in done:
                upload.result()
        return len(uploads)

    def decrypt(self, key_id: str, ciphertext: bytes) -> bytes:
        """Asks KMS. Raises botocore's errors."""
        plaintext: bytes = self._kms.decrypt(KeyId=key_id, CiphertextBlob=ciphertext)["Plaintext"]
        return plaintext

    def _put_file(self, path: Path, name: str) -> None:
        with path.open("rb") as file:
            self._s3.put_object(Bucket=self._prefix.bucket, Key=self._prefix.object_key(name), Body=file)


def files_below(directory: Path) -> Iterator[Path]:
    """Regular files; S3 has neither symbolic links nor empty directories."""
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder) / name
            if path.is_symlink():
                log.warning("cannot upload symlink (%s)", path)
            elif path.is_file():
                yield path
