"""Entry point `measure`; see `python -m entrypoints.measure --help`."""

from kd.config import MeasureConfig
from kd.stages import start

if __name__ == "__main__":
    start("measure", MeasureConfig)
