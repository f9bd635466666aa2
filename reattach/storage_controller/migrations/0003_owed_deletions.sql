-- Tenants that were deleted while a pageserver was silent, which may have written for them since.
CREATE TABLE owed_deletions (
    tenant_id text NOT NULL,
    node_id bigint NOT NULL,
    PRIMARY KEY (tenant_id, node_id)
);
