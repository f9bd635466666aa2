"""The built-in engine: an import bucket, a storage controller and pageservers, in Python."""

__version__ = "0.1.0"
