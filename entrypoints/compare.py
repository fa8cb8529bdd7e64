"""Entry point `compare`; see `python -m entrypoints.compare --help`."""

from kd.config import CompareConfig
from kd.stages import start

if __name__ == "__main__":
    start("compare", CompareConfig)
