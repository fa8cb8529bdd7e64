"""Entry point `cache`; see `python -m entrypoints.cache --help`."""

from kd.commands import start

if __name__ == "__main__":
    start("cache")
