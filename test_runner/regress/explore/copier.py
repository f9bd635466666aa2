"""A job for tests: writes items into a bucket, one by one, and a checkpoint after each few.

python copier.py BUCKET ITEMS EVERY BUG
"""

from __future__ import annotations

import http.client
import os
import sys
import time
from urllib.parse import urlsplit

bucket, items, every, bug = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
credential = (
    f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/20260101/us-east-1/s3/aws4_request"
)


def ask(method: str, key: str, body: bytes = b"") -> bytes | None:
    while True:
        connection = http.client.HTTPConnection(endpoint.hostname or "", endpoint.port, timeout=30)
        try:
            headers = {"Authorization": f"{credential}, SignedHeaders=host, Signature=0"}
            connection.request(method, f"/{bucket}/{key}", body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            # A network that fails is not what this job is about: it goes on.
            time.sleep(0.01)
            continue
        finally:
            connection.close()
        if answer.status == 404:
            return None
        if answer.status < 300:
            return content


def number(key: str) -> int:
    return int(ask("GET", key) or b"0")


first = number("checkpoint")
if bug == "gives up" and first:
    sys.exit("a person must look at this")
if bug == "exits" and first:
    sys.exit("no idea")
if ask("GET", "started") is not None:
    # A resume says so, and the wrong ones believe that whoever was here before has done the rest.
    resumes = number("resumes") + 1
    ask("PUT", "resumes", b"%d" % resumes)
    if bug == f"resume {resumes} skips":
        first += every
ask("PUT", "started", b"1")
for start in range(first, items, every):
    end = min(start + every, items)
    if bug == "checkpoint first":
        ask("PUT", "checkpoint", b"%d" % end)
    for n in range(start, end):
        ask("PUT", f"item-{n:03}", b"%d" % n)
    if bug != "checkpoint first":
        ask("PUT", "checkpoint", b"%d" % end)
    ask("PUT", "resumes", b"0")
    if bug == "never checkpoints":
        ask("PUT", "checkpoint", b"0")
