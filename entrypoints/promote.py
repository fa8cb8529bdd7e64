"""Entry point `promote`; see `python -m entrypoints.promote --help`."""

from kd.commands import start

if __name__ == "__main__":
    start("promote")
