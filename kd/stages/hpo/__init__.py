"""Search hyper-parameters with Optuna: on one process, on several, or on several machines that share a storage."""

import time
from contextlib import nullcontext
from dataclasses import asdict, replace

from kd import tracking
from kd.config import HpoConfig
from kd.slots import Slot, again, outstanding
from kd.stages.console import say
from kd.stages.hpo.claims import TEXT, WORKER, Claim, Superseded
from kd.stages.hpo.conclusion import conclude
from kd.stages.hpo.follow import Follower
from kd.stages.hpo.lead import Course, advance, reconcile, search_slots, tally
from kd.stages.hpo.opening import open_study, unbroken
from kd.stages.hpo.pictures import page
from kd.stages.hpo.pool import run_one, workers
from kd.stages.hpo.processes import host
from kd.stages.hpo.setting import Setting, at_work, bench_of, first_tries, prepare, teach
from kd.stages.hpo.study import Sampling, Study, Trial
from kd.stages.hpo.trials import Arm, Bench
from kd.types import Stopped, UserError

POLL_S = 1.0
LATE = "the time was up"
"""Why a lead ended that left trials out; the same command goes on with them."""


def run(config: HpoConfig) -> None:
    """Begin a search, go on with it, or join the process that leads it; then retrain, score and register the winner.

    Raises:
        UserError: bad input, or all trials failed.
        Refused: no finalist keeps the budgets.
        Stopped: a signal came; the same command goes on.
    """
    with tracking.session(config.experiment) as experiment:
        if tracking.under_mlflow_run() and tracking.without_password(config.storage) != config.storage:
            raise UserError(
                f"storage={tracking.without_password(config.storage)!r} has a password, which MLflow has "
                "written into this run: delete the run, and leave the password to PGPASSWORD or ~/.pgpass"
            )
        setting = prepare(config, experiment)
        with unbroken(setting.place):
            arms = setting.arms()
            storage = arms[0].search.storage
            office = open_study(storage, f"{setting.name}-lead", {"done": True}, {}, Sampling("random", "none", 1, 0))
            say(f"Study {setting.name} in {tracking.without_password(setting.place)}")
            label = _asked(config)
            _require_runs(setting, office)
            while True:
                if (done := _finished(office, label)) is not None:
                    _tell_finished(done)
                    return
                if (claim := _elected(office)) is not None:
                    try:
                        _lead(setting, arms, office, claim)
                        return
                    except Superseded:
                        say("This process was silent for so long that another one has taken the lead")
                if _join(setting, arms, office):
                    say("The time of this search was up; the same command goes on with the trials that are missing")
                    return


def _asked(config: HpoConfig) -> str:
    """Name what is asked of the study: a command that asks the same again has nothing to do."""
    budgets = (config.latency_budget_ms, config.ram_budget_mib, config.size_budget_mib)
    return f"{config.arm}, {config.n_trials} trials, top {config.top_k}, seeds {config.final_seeds}, budgets {budgets}"


def _require_runs(setting: Setting, office: Study) -> None:
    """Refuse a study whose runs are elsewhere: what its trials left behind would not be found."""
    for trial in office.trials():
        run_id = str(trial.notes.get("run_id", ""))
        if run_id and not tracking.status(run_id):
            raise UserError(
                f"study_name={setting.name!r} exists, but its runs (such as {run_id}) are not in "
                f"{tracking.tracking_uri()}: set MLFLOW_TRACKING_URI to the store it was begun with, or give another "
                "study_name"
            )


def _elected(office: Study) -> Claim | None:
    """Take the lead, unless another process has it: leads come one after the other, each a slot of its own."""
    office.reclaim()
    attempts = office.attempts()
    turn = Slot(f"lead {sum(one.state == 'complete' for one in attempts)}")
    for slot in again([turn], attempts):
        office.add(slot)
    office.ask_for([turn.name])
    return office.claim()


def _finished(office: Study, label: str) -> Trial | None:
    """Return the lead that did what is asked, if one has."""
    done = [one for one in office.trials() if one.attempt.state == "complete" and one.notes.get("asked") == label]
    return done[-1] if done else None


def _leading(office: Study) -> Trial | None:
    """Return the lead that is under way."""
    return next((trial for trial in office.trials() if trial.attempt.state == "running"), None)


def _tell_finished(done: Trial) -> None:
    run_id = str(done.notes["run_id"])
    say(f"This search is finished (run {run_id}); a larger n_trials goes on with it, another study_name begins anew.")
    say(tracking.record(run_id).tags.get("mlflow.note.content", ""))


def _lead(setting: Setting, arms: list[Arm], office: Study, claim: Claim) -> None:
    earlier = next((str(lead.notes["run_id"]) for lead in reversed(office.trials()) if "run_id" in lead.notes), "")
    label = _asked(setting.config)
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
            parent.log_params({**asdict(setting.config), "storage": tracking.without_password(setting.config.storage)})
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


def _join(setting: Setting, arms: list[Arm], office: Study) -> bool:
    """Run trials for the process that leads, until that one is done or gone; returns whether its time was up."""
    label, config = _asked(setting.config), setting.config
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
