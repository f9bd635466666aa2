"""The database: the only durable state of the controller."""
