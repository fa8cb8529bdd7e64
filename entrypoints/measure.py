"""Entry point `measure`; see `python -m entrypoints.measure --help`."""

from kd.commands import start

if __name__ == "__main__":
    start("measure")
