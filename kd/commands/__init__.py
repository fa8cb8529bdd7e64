"""The commands, a file each, listed by COMMANDS."""

import errno
import importlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from kd import config
from kd.base.console import log_plainly
from kd.base.harmless import harmless
from kd.base.memory import importing
from kd.base.ranks import is_main, join, world
from kd.base.signals import raise_on_signals
from kd.base.types import Followed, Lost, Refused, Stopped, UserError
from kd.config.commandline import parse
from kd.tasks import TASKS, options_of

COMMANDS: dict[str, type[config.Options]] = {
    "demo": config.DemoConfig,
    "main": config.MainConfig,
    "teacher": config.TeacherConfig,
    "student": config.StudentConfig,
    "distill": config.DistillConfig,
    "hpo": config.HpoConfig,
    "study": config.StudyConfig,
    "cascade": config.CascadeConfig,
    "measure": config.MeasureConfig,
    "compare": config.CompareConfig,
    "promote": config.PromoteConfig,
    "export": config.ExportConfig,
    "cache": config.CacheConfig,
}
"""Options of each command, which is the function `run` of the module of its name."""

QUIET = {
    # Busy-waiting OpenMP threads were measured to make two processes on two cores five times slower.
    "GOMP_SPINCOUNT": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # its warnings about several processes make no difference here
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server that does not answer is reported within seconds, not after seven retries.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}

TRAINING = ("teacher", "student", "distill")
"""Commands that torchrun may start as several processes of one training."""
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)
"""Errors of a file system that the user can fix."""


def read(command: str, arguments: Sequence[str] | None = None) -> config.Options:
    """Return the options of a command from `arguments`, by default this process's own. Raises UserError."""
    return parse(COMMANDS[command], {name: options_of(name) for name in TASKS}, arguments)


def start(command: str, arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, then run the command; heavy imports happen after parsing.

    Exit codes: 2 a mistake in the input (one line on stderr), 3 refused by a gate, 143 stopped and resumable.
    """
    try:
        options = read(command, arguments)
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"  # anyone may have made the model
        if not sys.stderr.isatty():
            os.environ.setdefault("TQDM_MININTERVAL", "30")  # a log file needs no moving bar
        raise_on_signals(_stopped)
        log_plainly()
        if world() > 1 and command not in TRAINING:
            raise UserError(
                f"{command} runs in one process, and {world()} were started: start it without torchrun, which is for "
                f"{', '.join(TRAINING)}"
            )
        join()
        from kd.base.disk import told
        from kd.base.files import scratch

        with told(), scratch():
            with importing():
                _check(options)
                run = importlib.import_module(f"kd.commands.{command}").run
            run(options)
    except Followed:
        sys.exit(0)
    except UserError as error:
        _leave(f"error: {error}", 2)
    except Refused as refusal:
        _leave(f"refused: {refusal}", 3)
    except Stopped as stop:
        _leave(f"stopped: {stop}", 143)
    except Lost as loss:  # every process reports it: the main one may be what ended
        sys.stderr.write(f"\nstopped: {harmless(str(loss))}\n")  # below a progress bar that nobody ends
        os._exit(143)  # exit handlers of libraries would wait for that process
    except OSError as error:
        if error.errno not in DENIED:
            raise
        _leave(f"error: {error.filename or 'a file'} cannot be written ({error.strerror}): grant it", 2)
    except KeyboardInterrupt:
        _leave("stopped: interrupted", 130)


def _check(options: config.Options) -> None:
    """Refuse data that cannot be used before torch is imported, which takes seconds, and MLflow, where that can wait.

    A study reads its rows itself, because its design may name their columns.
    """
    if not isinstance(options, config.FitOptions) or isinstance(options, config.StudyConfig):
        return
    from kd.run.data import require_data

    if not os.environ.get("MLFLOW_RUN_ID"):
        require_data(options)
        return
    from kd import tracking

    with tracking.session(options.experiment):  # it closes the run that `mlflow run` made
        require_data(options)


def _leave(message: str, code: int) -> NoReturn:
    if not is_main() and code == 2:  # most often the main process's too: what starts them ends this one with it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(15)
    if is_main() or code == 2:
        print(harmless(message), file=sys.stderr)
    sys.exit(code)


def _stopped() -> Stopped:
    return Stopped(
        "SIGTERM came; nothing was registered, and the same command continues from the last checkpoint, if there is one"
    )
