"""Entry point `hpo`; see `python -m entrypoints.hpo --help`."""

from kd.commands import start

if __name__ == "__main__":
    start("hpo")
