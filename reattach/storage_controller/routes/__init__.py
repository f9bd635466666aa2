"""The HTTP API, a module per kind of resource."""
