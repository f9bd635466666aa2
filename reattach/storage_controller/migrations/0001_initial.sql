CREATE TABLE tenant_shards (
    tenant_id varchar NOT NULL,
    shard_number integer NOT NULL,
    shard_count integer NOT NULL,
    shard_stripe_size integer NOT NULL,
    generation integer,
    generation_pageserver bigint,
    placement_policy varchar NOT NULL,
    splitting smallint NOT NULL DEFAULT 0,
    config text NOT NULL,
    scheduling_policy varchar NOT NULL DEFAULT '"Active"',
    preferred_az_id varchar,
    PRIMARY KEY (tenant_id, shard_number, shard_count)
);
CREATE INDEX tenant_shards_generation_pageserver ON tenant_shards (generation_pageserver);

CREATE TABLE nodes (
    node_id bigint PRIMARY KEY,
    scheduling_policy varchar NOT NULL,
    listen_http_addr varchar NOT NULL,
    listen_http_port integer NOT NULL,
    listen_pg_addr varchar NOT NULL,
    listen_pg_port integer NOT NULL,
    availability_zone_id varchar NOT NULL,
    listen_https_port integer,
    lifecycle varchar NOT NULL DEFAULT 'active',
    listen_grpc_addr varchar,
    listen_grpc_port integer
);

CREATE TABLE timeline_imports (
    tenant_id varchar NOT NULL,
    timeline_id varchar NOT NULL,
    shard_statuses jsonb NOT NULL,
    PRIMARY KEY (tenant_id, timeline_id)
);

CREATE TABLE controllers (
    address varchar NOT NULL,
    started_at timestamptz NOT NULL,
    PRIMARY KEY (address, started_at)
);
