"""A cluster with one of everything: what a data directory can hold besides rows in tables."""

from __future__ import annotations

from contextlib import closing

from reattach.fixtures.row_checksums import RowChecksums, row_checksums
from reattach.fixtures.vanilla_postgres import VanillaPostgres

MANY_TABLES = 2000

_OBJECTS = """
    create type mood as enum ('sad', 'ok', 'happy');
    create table things (
        id int generated always as identity primary key,
        hashed text, place point, span int4range, tags int[], words tsvector, path text,
        at timestamptz, m mood
    );
    insert into things (hashed, place, span, tags, words, path, at, m)
        select md5(i::text), point(i % 100, i / 100), int4range(i, i + 10), array[i, i % 7],
            to_tsvector('simple', 'word' || i % 50 || ' and ' || i), 'a/' || md5((i % 300)::text),
            timestamptz '2020-01-01 00:00Z' + i * interval '1 minute',
            (array['sad', 'ok', 'happy'])[1 + i % 3]::mood
        from generate_series(1, 5000) i;
    create index things_btree on things (at, m);
    create index things_hash on things using hash (hashed);
    create index things_gist on things using gist (place);
    create index things_gist_range on things using gist (span);
    create index things_gin on things using gin (tags);
    create index things_gin_words on things using gin (words);
    create index things_spgist on things using spgist (path);
    create index things_brin on things using brin (at);
    create index things_partial on things ((id % 10)) where m = 'happy';

    create table toasted (id int primary key, plain text, external text);
    alter table toasted alter column external set storage external;
    insert into toasted select i, repeat(md5(i::text), 2000), repeat(md5((-i)::text), 500)
        from generate_series(1, 60) i;

    create table parted (id int, region text, v numeric, primary key (id, region)) partition by list (region);
    create table parted_north partition of parted for values in ('north');
    create table parted_south partition of parted for values in ('south') partition by range (id);
    create table parted_south_1 partition of parted_south for values from (0) to (1000);
    create table parted_south_2 partition of parted_south for values from (1000) to (3000);
    create table parted_rest partition of parted default;
    insert into parted select i, (array['north', 'south', 'west'])[1 + i % 3], i / 7.0
        from generate_series(1, 2500) i;

    create sequence counter start 17 increment 3;
    select nextval('counter') from generate_series(1, 50);
    create materialized view summary as select region, count(*), sum(v) from parted group by region;
    create unique index on summary (region);
    create view happy as select * from things where m = 'happy';

    create unlogged table volatile (id int primary key, v text);
    insert into volatile select i, md5(i::text) from generate_series(1, 500) i;
    create temporary table passing as select * from generate_series(1, 1000) i;
    create table no_pages (id int primary key, v text);
    create table shrunk (id int, filler char(500));
    insert into shrunk select i, 'x' from generate_series(1, 3000) i;
    delete from shrunk where id > 100;
    create table emptied as select * from generate_series(1, 3000) i;
    truncate emptied;
    create table "odd ""name" ("odd column" int);
    insert into "odd ""name" values (1);

    select lo_from_bytea(0, convert_to(repeat(md5(i::text), 300), 'SQL_ASCII')) from generate_series(1, 20) i;

    -- Enough subtransactions for more than one page of transaction status.
    create table busy (id int);
    do $$ begin
        for i in 1 .. 34000 loop
            begin insert into busy values (i); exception when others then raise; end;
        end loop;
    end $$;
"""

QUERIES = (
    "select count(*), sum(id) from things where at between '2020-01-02' and '2020-01-03' and m = 'ok'",
    "select id from things where hashed = md5('4321')",
    "select count(*), sum(id) from things where place <@ box '((10,10),(20,20))'",
    "select count(*), sum(id) from things where span @> 777",
    "select count(*), sum(id) from things where tags @> array[3]",
    "select count(*), sum(id) from things where words @@ 'word7'::tsquery",
    "select count(*), sum(id) from things where path ^@ 'a/1'",
    "select count(*), sum(id) from things where at > '2020-01-03'",
    "select count(*), sum(id) from happy where id % 10 = 4",
    "select id, md5(plain), md5(external) from toasted where id in (1, 30, 60) order by id",
    "select tableoid::regclass::text, count(*), sum(v) from parted group by 1 order by 1",
    "select * from summary order by region",
    "select last_value from counter",
    "select count(*), sum(length(lo_get(oid))) from pg_largeobject_metadata",
    "select count(*), sum(id) from volatile",
    "select count(*) from no_pages",
    "select count(*), sum(id) from shrunk",
    "select count(*), sum(id) from busy",
    "select relname, pg_relation_size(oid) from pg_class where relkind in ('r', 'i', 't') order by 1, 2",
    "select datname from pg_database order by 1",
)
"""Asked with sequential scans discouraged, so that each index is used."""


def populate_rich(postgres: VanillaPostgres, tables: int) -> RowChecksums:
    """Fills a new cluster, with `tables` small tables besides; returns `row_checksums` of it."""
    postgres.safe_psql_many(
        [
            "create user cloud_admin with password 'postgres' superuser",
            _OBJECTS,
            f"""do $$ begin for i in 1 .. {tables} loop
                execute format('create table many_%s (id int primary key, v text)', i);
                execute format('insert into many_%s select j, md5(j::text) from generate_series(1, %s) j',
                    i, i % 5);
            end loop; end $$""",
            "create database second",
            "create database third template template0",
            "create database empty template template0",
            "vacuum analyze things",
            "vacuum shrunk",
        ],
        log_query=False,
    )
    for database in ("second", "third"):
        postgres.safe_psql(
            f"create table here as select '{database}' || i as v from generate_series(1, 1000) i",
            dbname=database,
        )
    _make_multixacts(postgres)
    return row_checksums(postgres)


def _make_multixacts(postgres: VanillaPostgres) -> None:
    """Rows that two transactions hold at once."""
    with (
        closing(postgres.connect(autocommit=False)) as one,
        closing(postgres.connect(autocommit=False)) as two,
    ):
        for connection in (one, two):
            connection.execute("select count(*) from (select 1 from things where id <= 500 for share) locked")
        for connection in (one, two):
            connection.commit()
