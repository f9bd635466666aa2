-- request: what the client asked for, so that creation can go on after a crash; null in rows of other controllers.
-- created: every shard's pageserver has the timeline in remote storage.
-- shard_history: by shard, when its status changed last, and how many jobs its plan has.
ALTER TABLE timeline_imports
    ADD COLUMN request jsonb,
    ADD COLUMN created boolean NOT NULL DEFAULT false,
    ADD COLUMN created_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN shard_history jsonb NOT NULL DEFAULT '{}';

-- Imports that the control plane was told of, until their timeline is deleted.
CREATE TABLE finished_imports (
    tenant_id varchar NOT NULL,
    timeline_id varchar NOT NULL,
    shard_statuses jsonb NOT NULL,
    request jsonb,
    created_at timestamptz NOT NULL,
    shard_history jsonb NOT NULL,
    error text,
    PRIMARY KEY (tenant_id, timeline_id)
);
