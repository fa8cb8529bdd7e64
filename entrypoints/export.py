"""Entry point `export`; see `python -m entrypoints.export --help`."""

from kd.commands import start
from kd.config import ExportConfig

if __name__ == "__main__":
    start("export", ExportConfig)
