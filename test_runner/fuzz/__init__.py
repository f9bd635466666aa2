"""Requests that make no sense, or only a little: made from the services' own OpenAPI descriptions."""
