"""Entry point `promote`; see `python -m entrypoints.promote --help`."""

from kd.config import PromoteConfig
from kd.stages import start

if __name__ == "__main__":
    start("promote", PromoteConfig)
