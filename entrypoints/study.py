"""Entry point `study`; see `python -m entrypoints.study --help`."""

from kd.config import StudyConfig
from kd.stages import start

if __name__ == "__main__":
    start("study", StudyConfig)
