"""Entry point `distill`; see `python -m entrypoints.distill --help`."""

from kd.config import DistillConfig
from kd.stages import start

if __name__ == "__main__":
    start("distill", DistillConfig)
