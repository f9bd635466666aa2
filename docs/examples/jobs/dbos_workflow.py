"""A durable workflow of ten steps on PostgreSQL, begun once and recovered as often as it is cut.

python dbos_workflow.py DSN [migrate]

Odd steps are transactions of a datasource, which dbos carries out once. Even ones are plain steps, which it
may repeat: each writes what it does so that it bears that.
"""

import sys

import psycopg
import sqlalchemy as sa
from dbos import DBOS, SetWorkflowID, SQLAlchemyDatasource

DSN = sys.argv[1]
URL = DSN.replace("postgresql://", "postgresql+psycopg://")
ITEMS = 5

DBOS(
    config={
        "name": "orders",
        "system_database_url": URL,
        # A process that was killed finds what it had begun.
        "executor_id": "one",
        "application_version": "1",
    }
)
datasource = SQLAlchemyDatasource.create(URL)


@datasource.transaction()
def book(n):
    datasource.sql_session().execute(sa.text("insert into booked values (:n)"), {"n": n})


@DBOS.step()
def send(n):
    with psycopg.connect(DSN) as connection:
        connection.execute(
            "insert into sent values (%s) on conflict (n) do update set times = sent.times + 1", [n]
        )


@DBOS.workflow()
def orders():
    for n in range(ITEMS):
        book(n)
        send(n)


if __name__ == "__main__":
    DBOS.launch()
    if sys.argv[2:] != ["migrate"]:
        with SetWorkflowID("orders"):
            handle = DBOS.start_workflow(orders)
        handle.get_result()
    DBOS.destroy()
