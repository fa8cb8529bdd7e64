"""Entry point `cascade`; see `python -m entrypoints.cascade --help`."""

from kd.config import CascadeConfig
from kd.stages import start

if __name__ == "__main__":
    start("cascade", CascadeConfig)
