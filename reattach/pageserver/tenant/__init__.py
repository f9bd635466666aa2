"""Tenant shards of this pageserver: where they are in their life, and how they change it."""
