"""Entry point `distill`; see `python -m entrypoints.distill --help`."""

from kd.commands import start
from kd.config import DistillConfig

if __name__ == "__main__":
    start("distill", DistillConfig)
