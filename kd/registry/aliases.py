"""Moving the aliases of a registered model: one promotion at a time, with a way back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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


def move(model: str, number: str, before: str) -> None:
    """Move champion from `before` (empty: none) to a version, previous first; UserError where another has moved it."""
    if (now := tracking.aliased(model, "champion")) != before:
        raise UserError(
            f"model={model!r}: champion was moved from version {before or 'none'} to {now or 'none'} by somebody else "
            "during this promotion: nothing was moved; decide again"
        )
    former = tracking.aliased(model, "previous")
    if before:
        tracking.set_alias(model, "previous", before)
    try:
        tracking.set_alias(model, "champion", number)
    except BaseException:
        if before:
            tracking.set_alias(model, "previous", former)
        raise
    if before:
        tracking.annotate(model, number, {SUCCEEDS: before})
    if (now := tracking.aliased(model, "champion")) != number:
        raise UserError(
            f"model={model!r}: champion was set to version {number}, but is {now or 'none'}: somebody else promotes at "
            "the same time; look at the registry and decide again"
        )


def roll_back(config: PromoteConfig) -> None:
    """Put champion, also a deleted one, back on the version with the alias previous, which then has no alias.

    Raises UserError where there is nothing to go back to, or champion was moved by hand since.
    """
    model = config.model
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
        tracking.set_alias(model, "champion", back)
        tracking.set_alias(model, "previous", "")
        if now:
            card = tracking.model_version(f"models:/{model}/{now}", "model").description
            note = f"**Rolled back** to version {back} by run `{run.run_id}`.\n\n"
            tracking.annotate(model, now, {"kd.rolled_back": f"by run {run.run_id}"}, note + (card or ""))
    gone = f"; version {now} has no alias champion any more" if now else ""
    say(f"{model} version {back} is champion again{gone}; there is no previous now, so go forward by number")


def copied(candidate: Version, target: str, ruling: Mapping[str, str], text: str) -> str:
    """Copy the version to the other registered model; the two share their files, so the run behind them is marked."""
    number = tracking.copy_version(candidate.uri, target)
    tracking.annotate(target, number, ruling, text)
    tracking.Run(candidate.record.run_id).set_tags({"kd.protected": f"models:/{target}/{number}"})
    say(
        f"Warning: {target} version {number} shares the files of {candidate.uri}; deleting run "
        f"{candidate.record.run_id} and `mlflow gc` would break both. The run is tagged kd.protected."
    )
    return number
