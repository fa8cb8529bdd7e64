"""Running trials, here or in several processes: each in a child run, its state in Optuna and MLflow alike."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection

import torch
from optuna.exceptions import StorageInternalError

from kd import tracking
from kd.base.console import hushed, say
from kd.base.disk import temporary
from kd.base.hashing import fingerprint
from kd.base.types import Halted, Pruned, Stopped, UserError
from kd.run.code import code_digest
from kd.run.data import rows_of
from kd.run.distill import planned
from kd.run.execute import started
from kd.run.fit import learn, log_model, save
from kd.run.plan import Plan
from kd.search.lease import RunningTrial, Superseded
from kd.search.optuna_study import Study
from kd.search.prepare import SearchArm, SearchPlan, options
from kd.search.storage import unbroken
from kd.serving import profile
from kd.serving.work import COUNTED, counted
from kd.space.parameters import draw
from kd.sweep.workers import SAID_WHY, workers

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
"""The state in MLflow of a trial's run, by its state in Optuna."""
POLL_S = 0.5
DEATHS = 3
"""How many times a worker that dies is replaced, times the number of workers: the cause may be the machine's."""
BEGUN = ("running", "complete", "pruned")
Show = Callable[[RunningTrial, int, float], None]
"""Shows (trial, epochs done, value) of each validation."""


@contextmanager
def trial_workers(plan: SearchPlan) -> Iterator[Callable[[], None]]:
    """Have processes run trials meanwhile; yields a check that replaces the dead, or raises UserError: all are gone."""
    deaths, count = 0, plan.config.workers
    with workers(count, _run_trials, (plan,)) as started:

        def check() -> None:
            nonlocal deaths
            for place, code in started.dead().items():
                deaths += 1
                if replaced := code != SAID_WHY and deaths <= DEATHS * count:
                    started.start(place)
                else:
                    del started.at[place]
                then = "another one takes its place" if replaced else f"{len(started.at)} continue"
                say(f"Warning: a worker has ended (exit code {code}); {then}")
            if not started.at:
                raise UserError(
                    "all workers have ended, and said above why (exit code -9 may mean too little memory: give fewer "
                    "workers); what ended is kept, and the same command again continues"
                )

        yield check


def _run_trials(pipe: Connection, plan: SearchPlan) -> None:
    """Run trials until the pipe closes, through which nothing is sent."""
    with tracking.session(plan.experiment), unbroken(plan.place):
        arms = plan.arms()
        while not pipe.poll():
            if not run_one(plan, arms, lambda *_: None):
                pipe.poll(POLL_S)


def run_one(plan: SearchPlan, arms: Sequence[SearchArm], show: Show) -> bool:
    """Run one trial that waits, if there is one: of the arm that has had fewer, so that time is shared by the arms."""
    for arm in sorted(arms, key=lambda one: sum(each.state in BEGUN for each in one.search.attempts())):
        for study in (arm.search, arm.finals):
            if (claim := study.claim()) is not None:
                _run(plan, arm, study, claim, show)
                return True
    return False


def _run(search: SearchPlan, arm: SearchArm, study: Study, claim: RunningTrial, show: Show) -> None:
    """Run a trial, so that its failure ends the trial and not the search."""
    try:
        with claim.alive(), hushed():
            _train(search, arm, study, claim, show)
    except Pruned:
        return
    except (Halted, StorageInternalError):  # it stays open, and the next command takes it up again
        raise
    except (Stopped, KeyboardInterrupt) as stop:
        claim.fail("stopped", str(stop))
        _agree(study, claim, f"stopped: {stop}")
        raise
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        line = text.splitlines()[0]
        claim.fail("error", text if isinstance(error, UserError) else f"{type(error).__name__}: {text}")
        _agree(study, claim, f"failed: {line}")
        say(f"Trial {claim.number} failed: {line}")


def _agree(study: Study, claim: RunningTrial, reason: str) -> None:
    """Give the run of a trial the trial's state: what broke off may have come after it had ended."""
    attempt = next(one for one in study.attempts() if one.number == claim.number)
    run_id, state = attempt.run_id, attempt.state
    if run_id and state in STATUS and tracking.status(run_id) != STATUS[state]:
        tracking.end(run_id, STATUS[state], reason if state == "failed" else state)


def _train(search: SearchPlan, arm: SearchArm, study: Study, claim: RunningTrial, show: Show) -> None:
    """Train with what is drawn on the search's seed, or with an earlier trial's parameters on a fresh one.

    The model is kept of the latter alone.
    """
    final, seed = study is arm.finals, search.config.seed
    if final:
        number, seed = (claim.inner.suggest_int(name, 0, 2**32 - 1) for name in ("trial", "seed"))
        params = next(one.params for one in arm.search.attempts() if one.number == number)
    else:
        number, params = claim.number, draw(arm.space, claim.inner)
    given = options(search.config, arm.name, params, seed)
    rows = rows_of(search.config)
    plan = planned(given, rows)
    name = f"trial {number}{' anew' if final else ''}"
    label, plan = plan.label, replace(plan, method=f"{name} · {plan.method}")
    # of the slot, so that the next attempt continues from the checkpoint of one that was killed
    key = fingerprint({**plan.identity, "seed": seed, "study": study.name, "slot": claim.slot,
                       "rows": rows.train_digest, "code": code_digest(plan.rows.task)})  # fmt: skip
    tags = {"kd.stage": "trial", "kd.study": study.name, "kd.trial": str(claim.number)}
    tags |= {"kd.label": label} if final else {}
    first = next(iter(search.directions))

    def watch(quality: Mapping[str, float], epoch: int) -> None:
        show(claim, epoch, quality[first])
        claim.report(quality[first], epoch, last=final or epoch >= given.epochs)

    folder = None
    try:
        with started(plan, given, search.parent, key, tags) as (run, folder):
            claim.note(run_id=run.run_id)
            quality = learn(plan, given, run, folder, watch)
            cost = _cost(plan, {*search.directions, *search.config.limits})
            run.log_metrics({f"model/{name}": value for name, value in cost.items()})
            if final:
                claim.note(model=log_model(plan, run))
            known = {**quality, **cost}
            excess = {name: known[name] - limit for name, limit in search.config.limits.items()}
            claim.complete([known[name] for name in search.directions], excess)
    except (Stopped, KeyboardInterrupt, Superseded, StorageInternalError, Halted):
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
        with temporary() as scratch:
            save(plan, scratch / "weights")
            cost["size_mib"] = profile.folder_size_mib(scratch / "weights")
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
