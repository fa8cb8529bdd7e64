"""Entry point `measure`; see `python -m entrypoints.measure --help`."""

from kd.commands import start
from kd.config import MeasureConfig

if __name__ == "__main__":
    start("measure", MeasureConfig)
