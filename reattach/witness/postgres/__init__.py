"""PostgreSQL proxies, one for each pair of an actor and its database."""
