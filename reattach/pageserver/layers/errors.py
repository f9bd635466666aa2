"""What can be wrong with a layer file."""

from __future__ import annotations


class LayerCorrupted(ValueError):
    """The file is not a whole layer of the expected name, or some of its bytes changed."""
