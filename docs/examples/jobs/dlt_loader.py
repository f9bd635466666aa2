"""Appends 500 numbered rows to a table with dlt, incrementally, and first finishes what was begun.

python dlt_loader.py DSN
"""

import os
import sys
from pathlib import Path

# All that it remembers is in the working directory, which survives a crash.
os.environ["DLT_DATA_DIR"] = str(Path("dlt").absolute())

import dlt
from dlt.destinations import postgres

ROWS = 500


@dlt.resource(name="numbers", write_disposition="append")
def numbers(after=dlt.sources.incremental("id", initial_value=0)):  # noqa: B008
    yield [{"id": n, "text": f"row {n}"} for n in range(after.last_value + 1, ROWS + 1)]


def main(dsn):
    pipeline = dlt.pipeline("numbers", destination=postgres(dsn), dataset_name="loaded")
    if pipeline.has_pending_data:
        pipeline.run()
    pipeline.run(numbers())


if __name__ == "__main__":
    main(*sys.argv[1:])
