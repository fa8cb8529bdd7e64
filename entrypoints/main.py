"""Entry point `main`; see `python -m entrypoints.main --help`."""

from kd.commands import start

if __name__ == "__main__":
    start("main")
