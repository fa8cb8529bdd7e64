"""Opening a storage and the studies in it, or saying what is wrong with them."""

import json
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb.models import BaseModel
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file
from optuna.study import StudyDirection
from sqlalchemy import Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import SQLAlchemyError

from kd.base.disk import told
from kd.base.files import home
from kd.base.harmless import without_secrets
from kd.base.types import PrunerName, UserError
from kd.search.lease import GRACE_S, HEARTBEAT_S
from kd.search.optuna_study import IDENTITY, Sampling, Study
from kd.search.retries import Attempt
from kd.tracking.store import first_line

RECORD = b'{"op_code":'
"""How each line of a journal begins."""
SQLITE_WAIT_S = 60
"""How long a process waits for the others that write to one SQLite file."""


def place_of(option: str, name: str) -> str:
    """Return where a study is kept: what the option says, or a file below KD_HOME."""
    return option or str(home() / "studies" / f"{name}.journal")


def open_storage(place: str) -> BaseStorage:
    """Open a database by its URL, or Optuna's journal by its path; UserError where it is neither, or out of reach."""
    if "://" in place:
        return _database(place)
    path = Path(place).expanduser().absolute()  # of a relative one, the lock would point nowhere, and never grow old
    foreign = f"storage={place!r} is no journal of Optuna's: name another file"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            file.seek(0)
            head = file.read(len(RECORD))
        if head != RECORD[: len(head)]:
            raise UserError(foreign)
        return optuna.storages.JournalStorage(_Journal(str(path)))
    except OSError as error:
        what = f"storage={place!r} cannot be used ({error.strerror}): name a file that can be written"
        raise UserError(what) from error
    except (StorageInternalError, KeyError, TypeError, AttributeError) as error:
        raise UserError(foreign) from error


class _Journal(JournalFileBackend):
    """Optuna's journal file; says of a failure that it is the storage's, and never writes behind half a line."""

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        with _as_storage():
            yield from super().read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        text = "".join(f"{json.dumps(log, separators=(',', ':'))}\n" for log in logs)
        with _as_storage(), get_lock_file(self._lock), open(self._file_path, "ab+", opener=_existing) as file:
            if size := file.seek(0, os.SEEK_END):
                file.seek(size - 1)
                if file.read() != b"\n":  # a full disk or a kill cut it short: it would spoil the next line
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())


def _existing(path: str, flags: int) -> int:
    """Open a file that must be there: one that was deleted meanwhile is not begun anew."""
    return os.open(path, flags & ~os.O_CREAT)


@contextmanager
def _as_storage() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:  # the last: the lock was taken from a process that slept
        raise StorageInternalError("the journal cannot be read or written") from error


def _database(url: str) -> BaseStorage:
    named = f"storage={without_secrets(url)!r}"
    try:
        sqlite = make_url(url).get_backend_name() == "sqlite"
        if sqlite and make_url(url).database in (None, "", ":memory:"):
            raise UserError(f"{named} is lost when the process ends: give sqlite:///FILE, or a journal's path")
        engine = create_engine(url)
        tables = inspect(engine).get_table_names()
        engine.dispose()
        others = sorted({*tables} - {*BaseModel.metadata.tables})
        if others and not {"studies", "version_info"} <= {*tables}:
            some = f"{', '.join(others[:3])}, ..."
            raise UserError(f"{named} has tables of another program ({some}): give a database of its own")
        database = _entered(url, {"connect_args": {"timeout": SQLITE_WAIT_S}} if sqlite else {})
        if sqlite:
            _exclude_each_other(database.engine)
        return optuna.storages.get_storage(database)
    except (SQLAlchemyError, ImportError, ValueError, StorageInternalError) as error:
        reason = first_line(getattr(error, "orig", None) or error)
        driver = isinstance(error, ImportError)
        mend = "install its driver" if driver else "give a database that can be reached, or a file"
        form = "a database is postgresql+psycopg2://USER@HOST/NAME or sqlite:///FILE"
        raise UserError(f"{named} cannot be used ({reason}): {mend}; {form}") from error
    except RuntimeError as error:  # Optuna's words for another schema
        raise UserError(f"{named}: {without_secrets(str(error))}") from error


def _entered(url: str, options: dict[str, Any]) -> RDBStorage:
    """Enter a database that can be reached; where it is new, others may be making its tables, so it tries again."""
    enter = partial(RDBStorage, url, options, heartbeat_interval=HEARTBEAT_S, grace_period=GRACE_S)
    for pause in (0.3, 1, 3):
        try:
            return enter()
        except (SQLAlchemyError, StorageInternalError):
            time.sleep(pause)
    return enter()


def _exclude_each_other(engine: Engine) -> None:
    """Let SQLite's transactions begin by taking the lock.

    They take it only when they write, so two processes can both read that a trial waits, and both take it: of 40 trials
    three processes ran four twice.
    """
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    engine.dispose()  # connections made before


@contextmanager
def unbroken(place: str) -> Iterator[None]:
    """Report in one line, as a UserError, that the storage failed in the middle of something."""
    try:
        with told(at=None if "://" in place else Path(place)):
            yield
    except StorageInternalError as error:
        reason = first_line(error.__cause__ or error)
        raise UserError(
            f"storage={without_secrets(place)!r} cannot be reached or written any more ({reason}); "
            "trials that ended are kept: give the same command again when it is back"
        ) from error


def open_study(
    storage: BaseStorage, name: str, directions: Mapping[str, bool], identity: Mapping[str, Any], how: Sampling
) -> Study:
    """Create a study, or open the one of that name if it is of the same search; UserError where it is of another.

    Args:
        storage: where it is kept.
        name: of the study.
        directions: what is optimised, and whether higher is better.
        identity: what the search is; JSON.
        how: sampler, pruner, seed.
    """
    wanted = [StudyDirection.MAXIMIZE if higher else StudyDirection.MINIMIZE for higher in directions.values()]
    pruner = _pruner(how.pruner if len(wanted) == 1 else "none", how.most_epochs)
    study = optuna.create_study(storage=storage, study_name=name, directions=wanted, pruner=pruner, load_if_exists=True)
    exists = f"study_name={name!r} exists"
    if study.directions != wanted:
        known, asked = (", ".join(one.name.lower() for one in each) for each in (study.directions, wanted))
        instead = "give another study_name, or the directions it was begun with"
        raise UserError(f"{exists} with other directions: {known}, not {asked}; {instead}")
    recorded = study.user_attrs.get(IDENTITY)
    plain = json.loads(json.dumps(dict(identity)))
    if recorded is None and study.get_trials(deepcopy=False):
        raise UserError(f"{exists}, and was not made by this entry point: give another study_name")
    if recorded is None:
        study.set_metric_names(list(directions))
        study.set_user_attr(IDENTITY, plain)
    elif differing := [key for key in {**recorded, **plain} if recorded.get(key) != plain.get(key)]:
        said = "; ".join(f"{key} was {_brief(recorded.get(key))}, is {_brief(plain.get(key))}" for key in differing)
        raise UserError(f"{exists} and is another search ({said}): give another study_name")
    return Study(study, storage, how)


def _pruner(name: PrunerName, most_epochs: int) -> optuna.pruners.BasePruner:
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=max(most_epochs, 2), reduction_factor=3)
    return optuna.pruners.MedianPruner() if name == "median" else optuna.pruners.NopPruner()


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def existing(storage: BaseStorage, names: Sequence[str]) -> list[Attempt]:
    """Return the complete trials, best first, of the first of these studies that exists; UserError where none does."""
    known = optuna.get_all_study_names(storage)
    for name in names:
        if name in known:
            return Study(optuna.load_study(study_name=name, storage=storage), storage, Sampling()).ranked()
    raise UserError(
        f"warm_start={names[-1]!r}: there is no such study; in this storage there are: {', '.join(known) or 'none'}; "
        "or give models:/NAME/VERSION"
    )
