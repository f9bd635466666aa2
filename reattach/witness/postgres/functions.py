"""Which functions only read. Those that nobody has listed may write."""

from __future__ import annotations

import re

_KEYWORDS = re.compile(
    r"""
    all | and | any | array | as | asc | between | by | case | cast | check | collate | cross |
    cube | current_date | current_time | current_timestamp | desc | distinct | else | end | except
    | exists | extract | false | fetch | filter | first | for | from | full | group | grouping |
    having | ilike | in | inner | intersect | into | is | isnull | join | last | lateral | left |
    like | limit | localtime | localtimestamp | materialized | natural | not | notnull | null |
    nulls | of | offset | on | only | operator | or | order | outer | over | overlaps | overlay | partition |
    percent | position | range | recursive | returning | right | rollup | row | rows | select |
    session_user | set | sets | similar | some | substring | symmetric | table | tablesample | then
    | ties | to | treat | trim | true | union | unique | unknown | user | using | values | variadic
    | when | where | window | with | within
    """,
    re.X,
)
"""Words that a parenthesis may follow and that are no functions."""

_BEFORE_ALIAS = frozenset({"as", ")", "::", "with", "recursive"})

_WRITES = re.compile(
    r"""
    nextval | setval | pg_notify | lo_.* | lowrite | dblink.* | query_to_xml.* | cursor_to_xml.*
    | table_to_xml.* | schema_to_xml.* | database_to_xml.*
    | pg_logical_(?:emit_message|slot_get.*) | pg_(?:create|drop|copy)_.* | pg_replication_.*
    | pg_switch_wal | pg_(?:terminate|cancel)_backend | pg_reload_conf | pg_rotate_logfile | pg_promote
    | pg_stat_reset.* | pg_(?:start|stop)_backup | pg_backup_.* | pg_wal_replay_(?:pause|resume)
    | pg_import_.* | pg_extension_config_dump | pg_nextoid | pg_file_.* | pg_restore_.*_stats
    | pg_clear_.*_stats | pg_set_.* | binary_upgrade_.* | brin_.* | gin_clean.*
    """,
    re.X,
)
"""Of PostgreSQL's own."""

_READS = re.compile(
    r"""
    abs | age | ascii | avg | bit_.* | bool_(?:and|or) | b?trim | ceil(?:ing)? | char(?:acter)?_length | chr
    | clock_timestamp | coalesce | col_description | concat(?:_ws)? | convert_(?:to|from) | corr | count
    | current_(?:database|schemas?|setting|user|query) | cume_dist | date_(?:part|trunc|bin) | decode
    | dense_rank | encode | every | exp | first_value | floor | format(?:_type)? | gen_random_uuid
    | generate_.*
    | greatest | has_.*_privilege | hashtext.* | inet_.* | initcap | jsonb?_.* | jsonb? | justify_.* | lag
    | last_value | lead | least | length | ln | log | lower | lpad | ltrim | make_.* | max | md5 | min | mod
    | mode | now | nth_value | ntile | nullif | num_nulls | num_nonnulls | obj_description | octet_length
    | percent_rank | percentile_.* | pi | power | quote_.* | random | range_.* | rank | regexp_.* | regr_.*
    | repeat | replace | reverse | round | row_number | row_to_json | rpad | rtrim | set_config
    | sha(?:224|256|384|512) | shobj_description | sign | similar_.* | split_part | sqrt | starts_with
    | statement_timestamp | stddev.* | string_.* | strpos | substr | sum | textlen | timeofday | timezone
    | to_.* | transaction_timestamp | translate | trunc | txid_.* | upper | uuid.* | var_.*
    | variance | version
    | array_.* | arrayoverlap | cardinality | unnest | width_bucket | xmin | int[248] | float[48] | text
    | varchar | numeric | decimal | date | time | timestamp(?:tz)? | interval | bytea | box | point | xml.*
    | pg_.*
    """,
    re.X,
)
_OWN = ("pg_catalog.", "information_schema.")


def changes_something(name: str, quoted: bool, before: str) -> bool:
    """Whether a name with a parenthesis behind it is a call that may write.

    before: the word before it, lower case.
    """
    if (not quoted and _KEYWORDS.fullmatch(name)) or before in _BEFORE_ALIAS:
        return False
    is_own = name.startswith(_OWN)
    bare = name.split(".", 1)[1] if is_own else name
    if _WRITES.fullmatch(bare):
        return True
    return not is_own and _READS.fullmatch(bare) is None
