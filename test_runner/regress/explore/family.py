"""A job of several processes, for tests. It writes a bucket.

python family.py BUCKET HOW
"""

from __future__ import annotations

import fcntl
import http.client
import os
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

bucket, how = sys.argv[1:]
endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
credential = (
    f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/20260101/us-east-1/s3/aws4_request"
)


def put(key: str) -> None:
    connection = http.client.HTTPConnection(endpoint.hostname or "", endpoint.port, timeout=30)
    headers = {"Authorization": f"{credential}, SignedHeaders=host, Signature=0"}
    connection.request("PUT", f"/{bucket}/{key}", b"x", headers)
    connection.getresponse().read()
    connection.close()


def child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def workers() -> None:
    """Three at the same time."""
    for pid in [child(lambda n=n: put(f"part-{n}")) for n in range(3)]:  # type: ignore[misc]
        os.waitpid(pid, 0)
    put("all")


def orphan() -> None:
    """A child writes as soon as it has lost its parent."""
    parent = os.getpid()

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(0.005)
        put("late")

    pid = child(wait)
    put("first")
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def lock() -> None:
    """The first run fails, and leaves a child that has a lock; the next one needs it at once."""
    file = os.open("lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    put("locked")
    if not os.path.exists("second"):  # noqa: PTH110
        os.close(os.open("second", os.O_CREAT))
        child(lambda: time.sleep(60))
        sys.exit(1)


{"workers": workers, "orphan": orphan, "lock": lock}[how]()
