"""The import of a Postgres data directory: bucket, plan, execution, report."""
