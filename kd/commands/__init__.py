"""What a user does, one use case a file, named as its entry point."""

import errno
import importlib
import os
import signal
import sys
from typing import Any, NoReturn

from kd.base.console import log_plainly
from kd.base.types import Refused, Stopped, UserError
from kd.config.commandline import Config, parse

QUIET = {
    # Busy-waiting OpenMP threads were measured to make two processes on two cores five times slower.
    "GOMP_SPINCOUNT": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server that is away is said to be away within seconds, not after seven retries.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.ENAMETOOLONG)
"""What a file system says that the user can mend."""


def start(stage: str, config: type[Config]) -> None:
    """Parse the command line, then run the stage; heavy imports come after parsing.

    Exit codes: 2 the user's mistake (one line on stderr), 3 refused by a gate, 143 stopped and resumable.
    """
    try:
        options = parse(config)
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"  # whoever made the model
        if not sys.stderr.isatty():
            os.environ.setdefault("TQDM_MININTERVAL", "30")  # a log file needs no moving bar
        signal.signal(signal.SIGTERM, _stop)
        log_plainly()
        importlib.import_module(f"kd.commands.{stage}").run(options)
    except UserError as error:
        _leave(f"error: {error}", 2)
    except Refused as refusal:
        _leave(f"refused: {refusal}", 3)
    except Stopped as stop:
        _leave(f"stopped: {stop}", 143)
    except OSError as error:
        if error.errno not in DENIED:
            raise
        _leave(f"error: {error.filename or 'a file'} cannot be written ({error.strerror}); free or grant the space", 2)
    except KeyboardInterrupt:
        _leave("stopped: interrupted", 130)


def _leave(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(code)


def _stop(*_: Any) -> NoReturn:
    raise Stopped(
        "SIGTERM came; nothing was registered, and the same command goes on from the last checkpoint, if there is one"
    )
