"""The formats that a pageserver keeps its data in: image layer files and `index_part.json`."""
