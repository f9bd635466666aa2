"""A job for tests, as cheap as can be: writes objects, one by one, and goes on where it was.

python writer.py BUCKET ITEMS HOW: "right", or "early": remembers an object before it writes it.
"""

from __future__ import annotations

import os
import socket
import sys

bucket, items, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
host, port = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://").split(":")
scope = f"{os.environ['AWS_ACCESS_KEY_ID']}/20260101/us-east-1/s3/aws4_request"


def ask(method: str, key: str, body: str = "") -> str | None:
    """The answer's body; None if there is no such object."""
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = (
            f"{method} /{bucket}/{key} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            f"Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall((head + body).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    status, content = answer.split(" ")[1], answer.partition("\r\n\r\n")[2]
    if status not in ("200", "404"):
        sys.exit(f"{method} {key}: {answer}")
    return content if status == "200" else None


for number in range(int(ask("GET", "checkpoint") or 0), items):
    if how == "early":
        ask("PUT", "checkpoint", str(number + 1))
    ask("PUT", f"item-{number}", str(number))
    ask("PUT", "checkpoint", str(number + 1))
