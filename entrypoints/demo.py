"""Entry point `demo`; see `python -m entrypoints.demo --help`."""

from kd.commands import start

if __name__ == "__main__":
    start("demo")
