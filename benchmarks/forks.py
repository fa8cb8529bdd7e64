"""Runs contenders one after the other, each in a process of its own that has its libraries imported already.

python -m benchmarks.forks MODULE...

imports these modules and nothing is computed; then for each line read, a JSON list of a module, its arguments and the
environment's changes, it forks a process that calls the module's `main`, and prints a JSON list: exit status, what that
process put out, what it said on stderr.
"""

import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout


def run(module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Call a module's `main` in a forked process; returns its exit status, output and complaints."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as complaints:
        if not (child := os.fork()):
            os.dup2(out.fileno(), 1)
            os.dup2(complaints.fileno(), 2)
            os.environ.update(environment)
            sys.argv = [module, *arguments]
            status = 1
            try:
                importlib.import_module(module).main()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        out.seek(0)
        complaints.seek(0)
        return os.waitstatus_to_exitcode(ended), out.read(), complaints.read()


def main() -> None:
    """Import, then run what is asked for."""
    with redirect_stdout(sys.stderr):
        for module in sys.argv[1:]:
            importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
