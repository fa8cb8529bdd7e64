"""`kd NAME ...` does what `python -m entrypoints.NAME ...` does; without a name it lists the commands."""

import sys
from collections.abc import Sequence

from kd import __version__
from kd.base.console import did_you_mean, print_last
from kd.base.types import UserError
from kd.commands import COMMANDS, start
from kd.config.help import completion, listing
from kd.tasks import TASKS, options_of


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first word names, with the others as its options.

    `arguments` are the words; those of this process where not given.
    """
    name, *words = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in COMMANDS:
        start(name, words)
        return
    try:
        print_last(f"{_about(name, words)}\n")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _about(name: str, words: Sequence[str]) -> str:
    if name in ("-h", "--help"):
        return listing(COMMANDS)
    if name == "--version":
        return f"kd {__version__}"
    if name == "completion":
        return completion(words, COMMANDS, {task: options_of(task) for task in TASKS})
    hint = did_you_mean(name, COMMANDS, f"give one of {', '.join(COMMANDS)}")
    raise UserError(f"unknown command {name!r}: {hint}")


if __name__ == "__main__":
    main()
