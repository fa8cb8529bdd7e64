"""Entry point `export`; see `python -m entrypoints.export --help`."""

from kd.commands import start

if __name__ == "__main__":
    start("export")
