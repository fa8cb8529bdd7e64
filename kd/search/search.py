"""Search hyper-parameters with Optuna: on one process, on several, or on several machines that share a storage."""

import time
from contextlib import nullcontext
from dataclasses import replace

from kd import tracking
from kd.base.budgets import BUDGETS
from kd.base.console import say
from kd.base.types import Stopped, UserError
from kd.config import HpoConfig, as_params
from kd.search.leader import Course, advance, reconcile, search_slots, tally
from kd.search.lease import TEXT, WORKER, Claim
from kd.search.page import page
from kd.search.pool import run_one, workers
from kd.search.prepare import Setting, at_work, bench_of, first_tries, teach
from kd.search.processes import host
from kd.search.progress import Follower
from kd.search.result import conclude
from kd.search.retries import Slot, again, outstanding
from kd.search.study import Study, Trial
from kd.search.trial import Arm, Bench

POLL_S = 1.0
LATE = "the time was up"
"""Why a lead ended that left trials out; the same command goes on with them."""


def asked(config: HpoConfig) -> str:
    """Name what is asked of the study: a command that asks the same again has nothing to do."""
    budgets = tuple(getattr(config, name) for name in BUDGETS)
    return f"{config.arm}, {config.n_trials} trials, top {config.top_k}, seeds {config.final_seeds}, budgets {budgets}"


def require_runs(setting: Setting, office: Study) -> None:
    """Refuse a study whose runs are elsewhere: what its trials left behind would not be found."""
    for trial in office.trials():
        run_id = str(trial.notes.get("run_id", ""))
        if run_id and not tracking.status(run_id):
            raise UserError(
                f"study_name={setting.name!r} exists, but its runs (such as {run_id}) are not in "
                f"{tracking.tracking_uri()}: set MLFLOW_TRACKING_URI to the store it was begun with, or give another "
                "study_name"
            )


def elected(office: Study) -> Claim | None:
    """Take the lead, unless another process has it: leads come one after the other, each a slot of its own."""
    office.reclaim()
    attempts = office.attempts()
    turn = Slot(f"lead {sum(one.state == 'complete' for one in attempts)}")
    for slot in again([turn], attempts):
        office.add(slot)
    office.ask_for([turn.name])
    return office.claim()


def finished(office: Study, label: str) -> Trial | None:
    """Return the lead that did what is asked, if one has."""
    done = [one for one in office.trials() if one.attempt.state == "complete" and one.notes.get("asked") == label]
    return done[-1] if done else None


def _leading(office: Study) -> Trial | None:
    """Return the lead that is under way."""
    return next((trial for trial in office.trials() if trial.attempt.state == "running"), None)


def tell_finished(done: Trial) -> None:
    """Say that nothing is left to do, and what was found."""
    run_id = str(done.notes["run_id"])
    say(f"This search is finished (run {run_id}); a larger n_trials goes on with it, another study_name begins anew.")
    say(tracking.record(run_id).tags.get("mlflow.note.content", ""))


def lead(setting: Setting, arms: list[Arm], office: Study, claim: Claim) -> None:
    """Lead the search: open its run, have all trials run, and conclude."""
    earlier = next((str(one.notes["run_id"]) for one in reversed(office.trials()) if "run_id" in one.notes), "")
    label = asked(setting.config)
    tags = {
        "kd.stage": "hpo",
        "kd.asked": label,
        "kd.study": setting.name,
        "kd.storage": tracking.without_password(setting.place),
        "kd.task": setting.config.task,
        "kd.dataset": setting.config.dataset,
    }
    try:
        course = _course(setting, arms)
        with (
            claim.alive(),
            tracking.run(f"hpo {setting.name}", tags, continued=earlier) as parent,
        ):
            claim.note(run_id=parent.run_id, experiment=setting.experiment, asked=label)
            params = as_params(setting.config)
            parent.log_params({**params, "storage": tracking.without_password(setting.config.storage)})
            bench = bench_of(setting, parent)
            left = _search(setting, bench, arms, course, claim)
            conclude(bench, arms)
    except BaseException as error:
        claim.fail("stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "error", str(error))
        raise
    if left:
        claim.fail("stopped", LATE)
        say(f"The time was up: {left} trials are missing; the same command goes on with them")
    else:
        claim.complete([1.0], {})
    say("Look at the runs: make ui, or: mlflow ui")


def _course(setting: Setting, arms: list[Arm]) -> Course:
    config = setting.config
    deadline = time.monotonic() + 60 * config.timeout_minutes if config.timeout_minutes else float("inf")
    return Course({arm.name: search_slots(config, arm, first_tries(setting, arm)) for arm in arms}, deadline)


def _search(setting: Setting, bench: Bench, arms: list[Arm], course: Course, claim: Claim) -> int:
    """Have all trials and retrainings run; returns how many trials are missing because the time was up.

    Raises:
        Superseded: another process has taken the lead.
    """
    config = setting.config

    def to_do() -> bool:
        claim.require()  # a machine that slept must not conclude what others are at
        return not advance(bench, arms, course)

    for study in _studies(arms):
        study.reclaim()
        reconcile(bench, study)
    if config.arm != "control" and config.cache != "off":
        known = tracking.record(bench.parent.run_id).metrics  # of a process that was killed
        passes, read = teach(bench)
        figures = {"hpo/teacher_passes": passes, "hpo/teacher_rows": read}
        bench.parent.log_metrics({name: known.get(name, 0) + value for name, value in figures.items()})
    with Follower(arms, course, list(setting.directions), config.workers, bench.parent) as follower:
        if config.workers == 1:
            while to_do():
                follower.update()
                if not run_one(bench, arms, follower.step):
                    time.sleep(POLL_S)
        else:
            with workers(config.workers, at_work, (setting, bench.parent.run_id)) as check:
                while to_do():
                    follower.update()
                    check()
                    time.sleep(POLL_S)
        follower.update()
    _count_passes(bench, arms)
    for study in _studies(arms):
        reconcile(bench, study)  # a worker may have been killed between telling the study and closing its run
    for arm in arms:
        counts = tally(arm.search, course.slots[arm.name])
        say(f"{arm.name}: {', '.join(f'{count} {state}' for state, count in counts.items())}")
        bench.parent.log_metrics({f"hpo/{arm.name}/{state}": count for state, count in counts.items()})
    bench.parent.log_text(page({arm.name: arm.search for arm in arms}, list(setting.directions)), "search.html")
    return sum(len(outstanding(course.slots[arm.name], arm.search.attempts())) for arm in arms)


def _count_passes(bench: Bench, arms: list[Arm]) -> None:
    """Count the trials in which the teacher had to read rows: elsewhere, or for a cache that was gone."""
    names = {study.name for study in _studies(arms)}
    records = tracking.runs([bench.experiment], "tags.`kd.stage` = 'trial'")
    within = sum("cost/teacher_s" in one.metrics for one in records if one.tags["kd.study"] in names)
    bench.parent.log_metrics({"hpo/teacher_passes_in_trials": within})


def _studies(arms: list[Arm]) -> list[Study]:
    return [study for arm in arms for study in (arm.search, arm.finals)]


def join(setting: Setting, arms: list[Arm], office: Study) -> bool:
    """Run trials for the process that leads, until that one is done or gone; returns whether its time was up."""
    label, config = asked(setting.config), setting.config
    while (lead := _leading(office)) is None or "run_id" not in lead.notes:
        time.sleep(POLL_S)
        if lead is None or office.reclaim():
            return False
    parent, setting = str(lead.notes["run_id"]), replace(setting, experiment=str(lead.notes["experiment"]))
    say(f"Joining: the search is led on {host(lead.notes[WORKER])} (run {parent}); with {config.workers} workers here")
    course = _course(setting, arms)
    if config.arm != "control":
        teach(bench_of(setting, tracking.Run(parent)))
    tags = {"kd.stage": "hpo", "kd.study": setting.name, "kd.joined": parent}
    with (
        tracking.run(f"hpo {setting.name}, joined", tags) if tracking.under_mlflow_run() else nullcontext(),
        workers(config.workers, at_work, (setting, parent)) as check,
        Follower(arms, course, list(setting.directions), config.workers, None) as follower,
    ):
        while _leading(office) is not None:
            office.reclaim()
            follower.update()
            check()
            time.sleep(POLL_S)
        follower.update()
    last = next(trial for trial in office.trials() if trial.attempt.number == lead.attempt.number)
    return lead.notes["asked"] == label and last.notes.get(TEXT) == LATE  # or it would be searched for as long again
