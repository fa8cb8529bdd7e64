"""Entry point `main`; see `python -m entrypoints.main --help`."""

from kd.config import MainConfig
from kd.stages import start

if __name__ == "__main__":
    start("main", MainConfig)
