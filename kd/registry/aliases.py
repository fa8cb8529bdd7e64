"""Moving the aliases of a registered model: one move at a time, with a way back, whole wherever it is interrupted.

A move is noted at the registered model before anything is moved, and the note is taken away last. The next command that
finds a note finishes the move where champion had moved, and takes it back where champion had not.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

from filelock import FileLock, Timeout

from kd import tracking
from kd.base.console import say
from kd.base.files import home
from kd.base.hashing import text_digest
from kd.base.types import UserError
from kd.config import PromoteConfig
from kd.registry.evidence import Version, version_at

SUCCEEDS = "kd.succeeds"
"""Tag of a version: the champion it followed."""
BEGUN = "kd.begun"
"""Tag of a registered model: the move that is under way."""
STALE = ("kd.gate.", "kd.rolled_back")
"""Beginnings of the tags that an earlier decision has left on a version."""


@dataclass(frozen=True)
class Move:
    """What a run does with the aliases of a registered model: the versions before and after, empty for none."""

    kind: Literal["promotion", "rollback"]
    run_id: str
    champion_before: str
    champion: str
    previous_before: str
    previous: str


@contextmanager
def alone(target: str) -> Iterator[None]:
    """Keep other promotions of the same registered model on this machine out."""
    key = text_digest(f"{tracking.tracking_uri()} {target}")[:16]
    folder = home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / f"promote-{key}.lock").acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"model={target!r}: another promotion of it is under way: wait for its end") from error
    with lock:
        yield


def settle(model: str) -> Move | None:
    """Finish or take back a move that was interrupted; returns it where it is finished. The caller is `alone`."""
    if not (text := tracking.model_tag(model, BEGUN)):
        return None
    move = Move(**json.loads(text))
    finished = _settled(model, move)
    now = f"champion is version {tracking.aliased(model, 'champion') or 'none'}"
    how = f"is finished: {now}" if finished else f"had moved nothing: {now} still"
    say(f"Note: a {move.kind} of {model} that was interrupted {how}")
    conclude(model)
    return move if finished else None


def _settled(model: str, move: Move) -> bool:
    """Finish a move whose champion has moved, take back one whose champion has not; says whether it is finished."""
    now = tracking.aliased(model, "champion")
    known = {"", *(str(one.version) for one in tracking.versions(model))}
    if now in (move.champion, move.champion_before):
        previous = move.previous if now == move.champion else move.previous_before
        if previous in known:  # it may have been deleted since
            tracking.set_alias(model, "previous", previous)
    if now == move.champion:
        _describe(model, move)
    return now == move.champion


def promote(model: str, number: str, before: str, run_id: str) -> None:
    """Move champion from `before` (empty: none), which becomes previous, to a version; `conclude` comes after the run.

    Raises UserError where somebody else has moved champion.
    """
    if (now := tracking.aliased(model, "champion")) != before:
        raise UserError(
            f"model={model!r}: champion was moved from version {before or 'none'} to {now or 'none'} by somebody else "
            "during this promotion: nothing was moved; decide again"
        )
    former = tracking.aliased(model, "previous")
    if before:
        tracking.annotate(model, number, {SUCCEEDS: before})
    else:
        tracking.forget(model, number, (SUCCEEDS,))
    _carry_out(model, Move("promotion", run_id, before, number, former, before or former))


def _carry_out(model: str, move: Move) -> None:
    tracking.tag_model(model, BEGUN, json.dumps(asdict(move)))
    try:
        if move.previous:
            tracking.set_alias(model, "previous", move.previous)
        tracking.set_alias(model, "champion", move.champion)
        if not move.previous:
            tracking.set_alias(model, "previous", "")
    except BaseException:
        _settled(model, move)
        conclude(model)
        raise
    _describe(model, move)
    now, previous = (tracking.aliased(model, alias) for alias in ("champion", "previous"))
    if (now, previous) != (move.champion, move.previous):
        conclude(model)
        raise UserError(
            f"model={model!r}: champion was set to version {move.champion}, previous to {move.previous or 'none'}, but "
            f"they are {now or 'none'} and {previous or 'none'}: somebody else promotes at the same time; look at the "
            "registry and decide again"
        )


def conclude(model: str) -> None:
    """Take the note of a move away: all that belongs to it is done, its run included."""
    tracking.tag_model(model, BEGUN, "")


def _describe(model: str, move: Move) -> None:
    """Say at a version that it was rolled back; after a promotion it says so itself."""
    if move.kind == "rollback" and move.champion_before:
        tracking.annotate(model, move.champion_before, {"kd.rolled_back": f"by run {move.run_id}"})
        card = tracking.model_version(f"models:/{model}/{move.champion_before}", "model").description or ""
        note = f"**Rolled back** to version {move.champion} by run `{move.run_id}`.\n\n"
        if not card.startswith(note):
            tracking.annotate(model, move.champion_before, {}, note + card)


def roll_back(config: PromoteConfig) -> None:
    """Put champion, also a deleted one, back on the version with the alias previous, which then has no alias.

    A rollback that was interrupted is finished instead; `settle` has said so.

    Raises UserError where there is nothing to go back to, or champion was moved by hand since.
    """
    model = config.model
    interrupted = None if config.dry_run else settle(model)
    if interrupted and interrupted.kind == "rollback":
        if tracking.was_killed(interrupted.run_id):
            tracking.end(interrupted.run_id, "FINISHED", "finished")
        return
    now, back = tracking.aliased(model, "champion"), tracking.aliased(model, "previous")
    if not now and not back:
        tracking.model_version(f"models:/{model}@champion", "model")  # says what there is
    if not back or back == now:
        raise UserError(f"rollback: {model!r} has no former champion to go back to; champion is version {now}")
    if now and tracking.model_version(f"models:/{model}/{now}", "model").tags.get(SUCCEEDS) != back:
        raise UserError(
            f"rollback: champion of {model!r}, version {now}, did not follow version {back}, which is previous: it was "
            f"set by hand; promote the version you mean: --candidate {back}"
        )
    version_at(f"models:/{model}/{back}", "previous")
    title = f"roll {model} back from version {now or 'that was deleted'} to {back}"
    with tracking.run(title, {"kd.stage": "promote", "kd.decision": "rollback"}) as run:
        run.log_params({"model": model, "from": now, "to": back, "dry_run": config.dry_run})
        if config.dry_run:
            say(f"{title}: would be done. This was a dry run: nothing was moved.")
            return
        _carry_out(model, Move("rollback", run.run_id, now, back, back, ""))
    conclude(model)
    gone = f"; version {now} has no alias champion any more" if now else ""
    say(f"{model} version {back} is champion again{gone}; there is no previous now, so go forward by number")


def copied(candidate: Version, target: str, ruling: Mapping[str, str], text: str) -> str:
    """Copy the version to the other registered model; the two share their files, so the run behind them is marked."""
    number = tracking.copy_version(candidate.uri, target)
    tracking.forget(target, number, STALE)
    tracking.annotate(target, number, ruling, text)
    tracking.Run(candidate.record.run_id).set_tags({"kd.protected": f"models:/{target}/{number}"})
    say(
        f"Warning: {target} version {number} shares the files of {candidate.uri}; deleting run "
        f"{candidate.record.run_id} and `mlflow gc` would break both. The run is tagged kd.protected."
    )
    return number
