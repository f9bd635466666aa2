"""The repository's own tests. The fixtures come from the installed plugin, as in any other project."""

pytest_plugins = ["pytester"]
