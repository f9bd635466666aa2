"""Remote storage, and everything that decides in which order it changes."""
