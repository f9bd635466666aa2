"""What statements do, as far as their text tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reattach.witness.postgres.sql import Kind, parse, shown
from reattach.witness.postgres.tokens import split
from reattach.witness.postgres.transaction import Transaction

WRITES = {
    "insert into orders (a) values (1)": "insert orders",
    "INSERT INTO public.orders SELECT 1": "insert public.orders",
    'insert into "Odd name" values (1)': "insert Odd name",
    "update only t set a = 1": "update t",
    "delete from t where a = 1": "delete t",
    "merge into t using s on t.a = s.a when matched then delete": "merge t",
    "truncate table only a, b": "truncate a; truncate b",
    "copy t from '/tmp/x'": "copy t",
    "copy t to '/tmp/x'": "copy to file",
    "create table if not exists t (a int)": "create table t",
    "create temp table t as select 1": "create table t",
    "create unlogged table t (a int)": "create table t",
    "create unique index i on t (a)": "create index i",
    "create index on t (a)": "create index t",
    "create or replace function f() returns int language sql as 'select 1'": "create function f",
    "create materialized view v as select 1": "create materialized view v",
    "refresh materialized view concurrently v": "refresh materialized view v",
    "drop table if exists t": "drop table t",
    "alter table if exists only t add b int": "alter table t",
    "comment on table t is 'x'": "comment table t",
    "grant select on t to u": "grant",
    "notify news": "notify news",
    "analyze t": "analyze t",
    "with x as (insert into t values (1) returning a) select * from x": "insert t",
    "with x as (select 1) update t set a = 2": "update t",
    "with x as (delete from a returning *) insert into b select * from x": "delete a; insert b",
    "select 1 into t": "create table t",
    "select nextval('s')": "select nextval",
    "select pg_catalog.setval('s', 1)": "select pg_catalog.setval",
    "select my.work_off(1)": "select my.work_off",
    "select pg_notify('a', 'b'), lo_unlink(1)": "select pg_notify; select lo_unlink",
    "insert into t (a) select work_off(a) from s on conflict (a) do update set b = 1": "insert t",
    "explain (analyze, costs off) insert into t values (1)": "insert t",
    "explain analyze verbose update t set a = 1": "update t",
    "/* a; b */ -- c\n insert into t values (';')": "insert t",
    "(insert into t values (1))": "insert t",
}

READS = [
    "select 1",
    "select count(*), max(a), coalesce(b, 'x') from t where a in (1, 2) and exists (select 1)",
    "select a from t for update",
    "select * from generate_series(1, 2) as g (i)",
    "select pg_catalog.format_type(1, 2)",
    "select pg_advisory_lock(1)",
    "with x (a) as (values (1)) select a::numeric(10, 2), cast(a as varchar(3)) from x",
    "select 'insert into t' as update, \"delete\" from t",
    "table t",
    "values (1)",
    "show all",
    "set local x = 1",
    "explain insert into t values (1)",
    "copy t to stdout",
    "copy (select 1) to stdout with (format binary)",
    "declare c cursor for select 1",
    "fetch 10 from c",
    "listen news",
    "deallocate all",
    "",
    ";;",
    "-- nothing",
]

KINDS = {
    "begin": Kind.BEGIN,
    "start transaction isolation level serializable": Kind.BEGIN,
    "commit": Kind.COMMIT,
    "end work": Kind.COMMIT,
    "prepare transaction 'x'": Kind.COMMIT,
    "commit prepared 'x'": Kind.ALONE,
    "rollback prepared 'x'": Kind.ALONE,
    "rollback": Kind.ROLLBACK,
    "abort": Kind.ROLLBACK,
    "savepoint a": Kind.SAVEPOINT,
    "release savepoint a": Kind.RELEASE,
    "rollback work to savepoint a": Kind.ROLLBACK_TO,
    "prepare p (int) as insert into t values ($1)": Kind.PREPARE,
    "execute p (1)": Kind.EXECUTE,
    "copy t (a, b) from stdin with (format csv)": Kind.COPY_IN,
    "vacuum (full) t": Kind.ALONE,
    "create index concurrently i on t (a)": Kind.ALONE,
    "create database d": Kind.ALONE,
    "drop database d": Kind.ALONE,
    "call p()": Kind.CALL,
    "do $$ begin commit; end $$": Kind.CALL,
}


@pytest.mark.parametrize(("text", "parts"), WRITES.items())
def test_writes(text: str, parts: str) -> None:
    (statement,) = parse(text)
    assert (statement.kind, "; ".join(statement.parts)) == (Kind.WRITE, parts)


@pytest.mark.parametrize("text", READS)
def test_reads(text: str) -> None:
    assert all((one.kind, one.parts) == (Kind.READ, ()) for one in parse(text))


@pytest.mark.parametrize(("text", "kind"), KINDS.items())
def test_kinds(text: str, kind: Kind) -> None:
    (statement,) = parse(text)
    assert statement.kind is kind


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a; b", ["a", " b"]),
        ("a ';' b; c", ["a ';' b", " c"]),
        ("select e'\\';'; b", ["select e'\\';'", " b"]),
        ("select $$;$$; select $x$ $$;$$ $x$", ["select $$;$$", " select $x$ $$;$$ $x$"]),
        ("select $1; b", ["select $1", " b"]),
        ('select ";"; b', ['select ";"', " b"]),
        ("/* /* ; */ ; */ a; b", ["/* /* ; */ ; */ a", " b"]),
        ("a -- ;\n; b", ["a -- ;\n", " b"]),
        ("create rule r as on insert to t do also (delete from a; delete from b); c", None),
        (
            "create function f() returns int begin atomic; select 1; select case when a then b end; end; c",
            None,
        ),
        ("a;;\n;", ["a"]),
    ],
)
def test_split(text: str, expected: list[str] | None) -> None:
    found = list(split(text))
    assert found == ([text.removesuffix("; c"), " c"] if expected is None else expected)


@given(st.text(alphabet="a;'\"$()-/*e \\\n", max_size=60))
def test_any_text_is_cut(text: str) -> None:
    """Nothing of a text is lost or doubled, whatever it is."""
    pieces = list(split(text))
    at = 0
    for piece in pieces:
        at = text.index(piece, at) + len(piece)
    parse(text)


def test_no_secret_is_kept() -> None:
    assert shown("alter role r password 'it''s'") == "alter role r password ***"
    assert "s3" not in shown("create subscription s connection 'host=h password=s3 dbname=d'")
    assert shown("create table u (password text)") == "create table u (password text)"
    assert len(shown("x" * 1000)) == 500


def commits(text: str, transaction: Transaction | None = None) -> str | None:
    commit = (transaction or Transaction()).commits(parse(text))
    return None if commit is None else commit.target


class TestTransaction:
    """What a query commits."""

    @pytest.mark.parametrize(
        ("text", "target"),
        [
            ("insert into a values (1); update b set c = 1; insert into a values (2)", "insert a; update b"),
            ("begin; insert into a values (1)", None),
            ("begin; insert into a values (1); commit", "insert a"),
            ("insert into a values (1); begin; delete from b; commit", "insert a; delete b"),
            ("begin; insert into a values (1); rollback", None),
            (
                "begin; savepoint s; insert into a values (1); rollback to s; delete from b; commit",
                "delete b",
            ),
            (
                "begin; delete from b; savepoint s; insert into a values (1); release s; end",
                "delete b; insert a",
            ),
            ("begin; insert into a values (1); commit and chain; delete from b", "insert a"),
            ("begin; insert into a values (1); prepare transaction 'x'", "insert a; prepare transaction"),
            ("begin; select 1; commit", None),
            ("commit prepared 'x'", "commit prepared"),
            ("select 1", None),
        ],
    )
    def test_query(self, text: str, target: str | None) -> None:
        assert commits(text) == target

    def test_what_failed_commits_nothing(self) -> None:
        transaction = Transaction()
        for statement in parse("begin; insert into a values (1)"):
            transaction.done(statement)
        assert commits("commit", transaction) == "insert a"
        transaction.error()
        assert commits("commit", transaction) is None
        assert commits("insert into b values (1)", transaction) is None

    def test_odd_names_stay_on_one_line(self) -> None:
        assert commits('insert into "a\n  b" values (1)') == "insert a b"

    def test_many_parts_are_cut(self) -> None:
        text = "; ".join(f"insert into t{name} values (1)" for name in "abcdefghijklmnopq")
        target = commits(text)
        assert target is not None
        assert target.startswith("insert ta; insert tb")
        assert target.endswith("; …")
