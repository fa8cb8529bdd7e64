"""Entry point `export`; see `python -m entrypoints.export --help`."""

from kd.config import ExportConfig
from kd.stages import start

if __name__ == "__main__":
    start("export", ExportConfig)
