"""Show, check or remove teachers' outputs and predictions and encoded features that are kept on this machine."""

import time
from collections.abc import Sequence

from filelock import Timeout
from rich.table import Column

from kd.base import files
from kd.base.console import say
from kd.base.files import home
from kd.base.terminal import Table, console
from kd.config import CacheConfig
from kd.teacher.cache import shard
from kd.teacher.cache.inventory import DAY_S, WHOLE, Entry, entries, prune, to_prune

MIB = 2**20


def run(config: CacheConfig) -> None:
    """List, verify or prune."""
    found = entries(files.is_whole if config.action == "verify" else shard.looks_whole)
    if not found:
        say(f"No teacher's outputs or predictions and no encoded features are kept in {home()}.")
        return
    if config.action == "prune":
        _prune(to_prune(found, time.time(), config.older_than_days, config.keep_gib), found)
        return
    console.print(table(found, time.time()))
    say(f"{len(found)} in {home()}, {_mib(found)} MiB")
    if config.action == "verify":
        bad = sum(entry.state.startswith("damaged") for entry in found)
        say(f"Every byte was read: {bad} damaged; what is damaged is computed again when it is next used.")


def table(found: Sequence[Entry], now: float) -> Table:
    """Return a line for each cache; `now` in s since 1970."""
    names = ("teacher", "data", "split", "precision")
    rows, mib = (Column(name, justify="right") for name in ("rows", "MiB"))
    result = Table(*(Column(name, overflow="fold") for name in names), rows, "contents", mib, "last used", "state")
    for entry in found:
        named = [entry.about.get(name, "?") for name in names]
        count = "?" if entry.rows is None else str(entry.rows)
        result.add_row(*named, count, _contents(entry), _mib([entry]), _ago(now - entry.used), entry.state)
    return result


def _contents(entry: Entry) -> str:
    kept = entry.about.get("contents", "?").replace(",", ", ")
    return kept if entry.rest is None else f"{kept} (most probable; the rest weighs {entry.rest:.2%})"


def _mib(found: Sequence[Entry]) -> str:
    return f"{sum(entry.size for entry in found) / MIB:.1f}"


def _ago(seconds: float) -> str:
    days = int(seconds // DAY_S)
    return "today" if days < 1 else f"{days} day{'s' if days > 1 else ''} ago"


def _prune(chosen: Sequence[Entry], found: Sequence[Entry]) -> None:
    removed = []
    for entry in chosen:
        try:
            prune(entry)
            removed.append(entry)
        except Timeout:
            say(f"Kept, because it is being written: {entry.path}")
        except BlockingIOError:
            say(f"Kept, because a training uses it: {entry.path}")
        except OSError as error:
            say(f"Kept, because it cannot be removed: {entry.path} ({error.strerror or error})")
    say(f"Removed {len(removed)} of {len(found)}, {_mib(removed)} MiB")
    damaged = [entry for entry in found if entry not in removed and entry.state != WHOLE]
    if damaged:
        say(f"{len(damaged)} of what is left are not whole; see action=list")
