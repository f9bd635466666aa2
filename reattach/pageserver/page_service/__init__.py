"""The pageserver's libpq port: PostgreSQL's wire protocol, as far as a full backup needs it."""
