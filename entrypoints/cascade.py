"""Entry point `cascade`; see `python -m entrypoints.cascade --help`."""

from kd.commands import start

if __name__ == "__main__":
    start("cascade")
