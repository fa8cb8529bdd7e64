"""One trial: its options, its training within a child run, and its state in Optuna and MLflow alike."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from optuna.exceptions import StorageInternalError

from kd import tracking
from kd.base.console import hushed, say
from kd.base.hashing import fingerprint
from kd.base.types import Pruned, Stopped, UserError
from kd.config import DistillConfig, HpoConfig, StudentConfig, narrowed
from kd.run.distill import planned
from kd.run.execute import started
from kd.run.fit import learn, log_model, save
from kd.run.identity import code_digest
from kd.run.plan import Plan
from kd.search.lease import RunningTrial, Superseded
from kd.search.optuna_study import Study
from kd.serving import profile
from kd.serving.work import COUNTED, counted
from kd.space import Space, draw
from kd.sweep.cells import rows_of

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
"""The state in MLflow of a trial's run, by its state in Optuna."""
Show = Callable[[RunningTrial, int, float], None]
"""Shows (trial, epochs done, value) of each validation."""


@dataclass(frozen=True)
class Arm:
    """What is tuned: the distilled student or its control, in a study of its own."""

    name: str
    space: Space
    search: Study
    finals: Study


@dataclass(frozen=True)
class Context:
    """Where this process runs trials.

    Attributes:
        config: the search's options, the teacher resolved to a version.
        directions: what is optimised, and whether higher is better.
        experiment: its name.
        parent: run the trials are nested in.
    """

    config: HpoConfig
    directions: Mapping[str, bool]
    experiment: str
    parent: tracking.Run


def options(config: HpoConfig, arm: str, params: Mapping[str, Any], seed: int) -> StudentConfig:
    """Return what `distill` or `student` would be given for these parameters."""
    return narrowed(DistillConfig if arm == "distill" else StudentConfig, config, **{**params, "seed": seed})


def search_trial(context: Context, arm: Arm, claim: RunningTrial, show: Show) -> None:
    """Draw parameters, train, and report to the study how good they are on validation."""

    def carry_out() -> None:
        given = options(context.config, arm.name, draw(arm.space, claim.inner), context.config.seed)
        _train(context, claim, given, show)

    _contained(claim, carry_out)


def final_trial(context: Context, arm: Arm, claim: RunningTrial, show: Show) -> None:
    """Train the parameters of an earlier trial on a fresh seed, and keep the model."""

    def carry_out() -> None:
        number, seed = (claim.inner.suggest_int(name, 0, 2**32 - 1) for name in ("trial", "seed"))
        params = next(one.attempt.params for one in arm.search.trials() if one.attempt.number == number)
        _train(context, claim, options(context.config, arm.name, params, seed), show, final=True)

    _contained(claim, carry_out)


def _contained(claim: RunningTrial, carry_out: Callable[[], None]) -> None:
    """Run a trial, so that its failure ends the trial and not the search."""
    try:
        with claim.alive(), hushed():
            carry_out()
    except Pruned:
        return
    except (tracking.Away, StorageInternalError):  # it stays open, and is taken up again when the store is back
        raise
    except (Stopped, KeyboardInterrupt) as stop:
        claim.fail("stopped", str(stop))
        _agree(claim, f"stopped: {stop}")
        raise
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        claim.fail("error", text if isinstance(error, UserError) else f"{type(error).__name__}: {text}")
        _agree(claim, f"failed: {text.splitlines()[0]}")
        say(f"Trial {claim.number} failed: {text.splitlines()[0]}")


def _agree(claim: RunningTrial, reason: str) -> None:
    """Give the run of a trial the trial's state: what broke off may have come after it had ended."""
    trial = next(one for one in claim.study.trials() if one.attempt.number == claim.number)
    run_id, state = str(trial.notes.get("run_id", "")), trial.attempt.state
    if run_id and state in STATUS and tracking.status(run_id) != STATUS[state]:
        tracking.end(run_id, STATUS[state], reason if state == "failed" else state)


def _train(context: Context, claim: RunningTrial, given: StudentConfig, show: Show, final: bool = False) -> None:
    rows = rows_of(context.config, given.seed)
    plan = planned(given, rows)
    name = f"trial {claim.inner.params['trial']} anew" if final else f"trial {claim.number}"
    label, plan = plan.label, replace(plan, method=f"{name} · {plan.method}")
    # of the slot, so that the next attempt goes on from the checkpoint of one that was killed
    key = fingerprint({**plan.identity, "seed": given.seed, "study": claim.study.name, "slot": claim.slot,
                       "rows": rows.train_digest, "code": code_digest(plan.rows.task)})  # fmt: skip
    tags = {"kd.stage": "trial", "kd.study": claim.study.name, "kd.trial": str(claim.number)}
    tags |= {"kd.label": label} if final else {}
    first = next(iter(context.directions))

    def watch(quality: Mapping[str, float], epoch: int) -> None:
        show(claim, epoch, quality[first])
        claim.report(quality[first], epoch, last=final or epoch >= given.epochs)

    folder = None
    try:
        with started(plan, given, context.parent, key, tags) as (run, folder):
            claim.note(run_id=run.run_id)
            quality = learn(plan, given, run, folder, watch)
            cost = _cost(plan, {*context.directions, *context.config.limits})
            run.log_metrics({f"model/{name}": value for name, value in cost.items()})
            if final:
                claim.note(model=log_model(plan, run))
            known = {**quality, **cost}
            excess = {name: known[name] - limit for name, limit in context.config.limits.items()}
            claim.complete([known[name] for name in context.directions], excess)
    except (Stopped, KeyboardInterrupt, Superseded, StorageInternalError, tracking.Away):
        raise
    except Exception:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)  # nobody continues from here
        raise


def _cost(plan: Plan, asked: set[str]) -> dict[str, float]:
    """Measure what of a student's cost a limit or a direction asks for; its number of parameters always."""
    cost = {"parameters": float(plan.model.num_parameters())}
    if "gflops" in asked:
        cost["gflops"] = _gflops(plan)
    if "size_mib" in asked:
        with tempfile.TemporaryDirectory() as scratch:
            save(plan, Path(scratch) / "weights")
            cost["size_mib"] = profile.folder_size_mib(Path(scratch) / "weights")
    return cost


def _gflops(plan: Plan) -> float:
    features = plan.features("validation")
    collate = plan.rows.task.collate(plan.processor)
    plan.model.to("cpu").eval()
    batches = [collate(features.__getitems__([place])) for place in range(min(COUNTED, len(features)))]
    with torch.inference_mode():
        found = counted(plan.model, [partial(plan.model, **each.inputs) for each in batches])
    if "model/gflops" not in found:
        raise UserError("gflops: not all of this model's work can be counted; use parameters or size_mib instead")
    return found["model/gflops"]
