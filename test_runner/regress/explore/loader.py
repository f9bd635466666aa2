"""A job for tests: loads numbers into a table, so many in a transaction. BUG: see `load`.

python loader.py DSN ROWS BATCH BUG
"""

from __future__ import annotations

import sys

import psycopg

dsn, rows, batch, bug = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


def load(connection: psycopg.Connection[tuple[int]]) -> None:
    row = connection.execute("select coalesce(max(loaded), 0) from progress").fetchone()
    connection.commit()
    for start in range(row[0] if row else 0, rows, batch):
        end = min(start + batch, rows)
        if bug == "progress first":
            connection.execute("insert into progress values (%s)", (end,))
            connection.commit()
        if bug == "copies":
            with connection.cursor() as cursor, cursor.copy("copy t from stdin") as copy:
                for n in range(start + 1, end + 1):
                    copy.write_row([n])
        else:
            connection.execute("insert into t select generate_series(%s::int, %s::int)", (start + 1, end))
        if bug == "two transactions":
            connection.commit()
        if bug != "progress first":
            connection.execute("insert into progress values (%s)", (end,))
        connection.commit()


with psycopg.connect(dsn) as connection:
    load(connection)
