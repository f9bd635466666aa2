"""Copies a running PostgreSQL database into an import bucket, or into another database."""
