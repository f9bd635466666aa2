"""What the files of the working directory say: `pageserver.toml`, `identity.toml`, `metadata.json`."""
