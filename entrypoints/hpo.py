"""Entry point `hpo`; see `python -m entrypoints.hpo --help`."""

from kd.config import HpoConfig
from kd.stages import start

if __name__ == "__main__":
    start("hpo", HpoConfig)
