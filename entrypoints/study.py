"""Entry point `study`; see `python -m entrypoints.study --help`."""

from kd.commands import start

if __name__ == "__main__":
    start("study")
