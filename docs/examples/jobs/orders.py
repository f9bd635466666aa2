"""Places orders at a shop, and goes on where it was stopped. Whatever goes wrong ends it.

python orders.py URL [HOW]
"""

import json
import sys
import urllib.request
from pathlib import Path

ORDERS = ("apples", "bananas", "cherries")
PLACED = Path("placed")


def main(url, how="right"):
    placed = PLACED.read_text().split() if PLACED.exists() else []
    for fruit in ORDERS:
        if fruit not in placed:
            # By its key the shop knows an order that it has already.
            place(url, {"fruit": fruit, "key": fruit} if how == "right" else {"fruit": fruit})
            with PLACED.open("a") as file:
                file.write(f"{fruit}\n")


def place(url, order):
    request = urllib.request.Request(f"{url}/orders", json.dumps(order).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=20):
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
