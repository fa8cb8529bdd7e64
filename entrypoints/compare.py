"""Entry point `compare`; see `python -m entrypoints.compare --help`."""

from kd.commands import start
from kd.config import CompareConfig

if __name__ == "__main__":
    start("compare", CompareConfig)
