-- request: what the client asked for, so that creation can go on after a crash; null in rows of other controllers.
-- created: every shard's pageserver has acknowledged the timeline.
ALTER TABLE timeline_imports
    ADD COLUMN request jsonb,
    ADD COLUMN created boolean NOT NULL DEFAULT false,
    ADD COLUMN created_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN last_changes jsonb NOT NULL DEFAULT '{}';

-- Imports that the control plane was told of, until their timeline is deleted.
CREATE TABLE finished_imports (
    tenant_id varchar NOT NULL,
    timeline_id varchar NOT NULL,
    shard_statuses jsonb NOT NULL,
    request jsonb,
    created_at timestamptz NOT NULL,
    last_changes jsonb NOT NULL,
    error text,
    PRIMARY KEY (tenant_id, timeline_id)
);
