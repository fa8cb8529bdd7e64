"""Entry point `compare`; see `python -m entrypoints.compare --help`."""

from kd.commands import start

if __name__ == "__main__":
    start("compare")
