"""Entry point `distill`; see `python -m entrypoints.distill --help`."""

from kd.commands import start

if __name__ == "__main__":
    start("distill")
