"""Timelines: what they hold, how they are made, imported, activated and deleted."""
