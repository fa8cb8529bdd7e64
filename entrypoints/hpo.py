"""Entry point `hpo`; see `python -m entrypoints.hpo --help`."""

from kd.commands import start
from kd.config import HpoConfig

if __name__ == "__main__":
    start("hpo", HpoConfig)
