"""`python -m kd NAME ...` does what `python -m entrypoints.NAME ...` does; without a name it lists the commands."""

import sys

from kd.base.console import did_you_mean
from kd.commands import COMMANDS, start


def main(words: list[str]) -> None:
    """Run the command that the first word names, with the others as its options."""
    if not words or words[0] in ("-h", "--help"):
        print("usage: python -m kd NAME [--OPTION VALUE ...]\n")
        for name, options in COMMANDS.items():
            print(f"  {name:8} {(options.__doc__ or '').splitlines()[0]}")
        print("\npython -m kd NAME --help lists the options of a command.")
    elif words[0] in COMMANDS:
        start(words[0], words[1:])
    else:
        hint = did_you_mean(words[0], COMMANDS, f"give one of {', '.join(COMMANDS)}")
        print(f"error: unknown command {words[0]!r}: {hint}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
