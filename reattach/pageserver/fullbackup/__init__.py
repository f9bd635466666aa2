"""A complete data directory of a timeline, streamed as a tar."""
