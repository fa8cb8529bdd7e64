"""Who leads a search, what it does until all trials have ended, and what a process does that joins it."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace

from kd import tracking
from kd.base.console import say
from kd.base.types import Stopped, UserError
from kd.config import HpoConfig
from kd.search.lease import TEXT, WORKER, RunningTrial, Superseded
from kd.search.optuna_study import Study, Trial
from kd.search.page import page
from kd.search.pool import run_one, trial_workers
from kd.search.prepare import SearchPlan, at_work, context_of, first_tries, teach
from kd.search.process_identity import host
from kd.search.progress import Follower
from kd.search.result import conclude
from kd.search.retries import Slot, again, outstanding
from kd.search.schedule import Goal, advance, reconcile, search_slots, tally
from kd.search.trial import Arm, Context

POLL_S = 1.0
LATE = "the time was up"
"""Why a lead ended that left trials out; the same command continues with them."""


def wanted_of(config: HpoConfig) -> str:
    """Name what a command wants of the study: a second one that wants the same has nothing to do."""
    budgets = (config.latency_budget_ms, config.ram_budget_mib, config.size_budget_mib)
    return f"{config.arm}, {config.n_trials} trials, top {config.top_k}, seeds {config.final_seeds}, budgets {budgets}"


def require_runs(plan: SearchPlan, leads: Study) -> None:
    """Refuse a study whose runs are elsewhere: what its trials left behind would not be found."""
    for trial in leads.trials():
        run_id = str(trial.notes.get("run_id", ""))
        if run_id and not tracking.status(run_id):
            raise UserError(
                f"study_name={plan.name!r} exists, but its runs (such as {run_id}) are not in "
                f"{tracking.tracking_uri()}: set MLFLOW_TRACKING_URI to the store it was begun with, or give another "
                "study_name"
            )


def elected(leads: Study) -> RunningTrial | None:
    """Take the lead, unless another process has it: leads come one after the other, each a slot of its own."""
    leads.reclaim()
    attempts = leads.attempts()
    turn = Slot(f"lead {sum(one.state == 'complete' for one in attempts)}")
    for slot in again([turn], attempts):
        leads.add(slot)
    leads.want([turn.name])
    return leads.claim()


def finished(leads: Study, label: str) -> Trial | None:
    """Return the lead that did what is wanted, if there is one."""
    done = [one for one in leads.trials() if one.attempt.state == "complete" and one.notes.get("asked") == label]
    return done[-1] if done else None


def _leading(leads: Study) -> Trial | None:
    """Return the lead that is under way."""
    return next((trial for trial in leads.trials() if trial.attempt.state == "running"), None)


def report_finished(done: Trial) -> None:
    """Say that nothing is left to do, and what was found."""
    run_id = str(done.notes["run_id"])
    say(f"This search is finished (run {run_id}); a larger n_trials continues it, another study_name begins anew.")
    say(tracking.record(run_id).tags.get("mlflow.note.content", ""))


def take_part(plan: SearchPlan, arms: list[Arm], leads: Study) -> None:
    """Lead the search, or join the process that leads it, until what is wanted is done or the time is up."""
    label = wanted_of(plan.config)
    while (done := finished(leads, label)) is None:
        if (claim := elected(leads)) is not None:
            try:
                lead(plan, arms, leads, claim)
                return
            except Superseded:
                say("This process was silent for so long that another one has taken the lead")
        if join(plan, arms, leads):
            say("The time of this search was up; the same command continues with the trials that are missing")
            return
    report_finished(done)


def lead(plan: SearchPlan, arms: list[Arm], leads: Study, claim: RunningTrial) -> None:
    """Lead the search: open its run, have all trials run, and conclude."""
    earlier = next((str(one.notes["run_id"]) for one in reversed(leads.trials()) if "run_id" in one.notes), "")
    label = wanted_of(plan.config)
    tags = {
        "kd.stage": "hpo",
        "kd.asked": label,
        "kd.study": plan.name,
        "kd.storage": tracking.without_password(plan.place),
        "kd.task": plan.config.task,
        "kd.dataset": plan.config.dataset,
    }
    try:
        goal = _goal(plan, arms)
        with (
            claim.alive(),
            tracking.run(f"hpo {plan.name}", tags, continued=earlier) as parent,
        ):
            claim.note(run_id=parent.run_id, experiment=plan.experiment, asked=label)
            parent.log_params({**asdict(plan.config), "storage": tracking.without_password(plan.config.storage)})
            context = context_of(plan, parent)
            left = _search(plan, context, arms, goal, claim)
            conclude(context, arms)
    except BaseException as error:
        claim.fail("stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "error", str(error))
        raise
    if left:
        claim.fail("stopped", LATE)
        say(f"The time was up: {left} trials are missing; the same command continues with them")
    else:
        claim.complete([1.0], {})
    say("Look at the runs: make ui, or: mlflow ui")


def _goal(plan: SearchPlan, arms: list[Arm]) -> Goal:
    config = plan.config
    deadline = time.monotonic() + 60 * config.timeout_minutes if config.timeout_minutes else float("inf")
    return Goal({arm.name: search_slots(config, arm, first_tries(plan, arm)) for arm in arms}, deadline)


def _search(plan: SearchPlan, context: Context, arms: list[Arm], goal: Goal, claim: RunningTrial) -> int:
    """Have all trials and retrainings run; returns how many trials are missing because the time was up.

    Raises:
        Superseded: another process has taken the lead.
    """

    def to_do() -> bool:
        claim.require()  # a machine that slept must not conclude what others still run
        return not advance(context, arms, goal)

    for study in _studies(arms):
        study.reclaim()
        reconcile(context, study)
    if plan.config.arm != "control" and plan.config.cache != "off":
        _teach(context)
    with Follower(arms, goal, list(plan.directions), plan.config.workers, context.parent) as follower:
        _run_while(to_do, plan, context, arms, follower)
        follower.update()
    _count_passes(context, arms)
    for study in _studies(arms):
        reconcile(context, study)  # a worker may have been killed between ending the trial and closing its run
    for arm in arms:
        counts = tally(arm.search, goal.slots[arm.name])
        say(f"{arm.name}: {', '.join(f'{count} {state}' for state, count in counts.items())}")
        context.parent.log_metrics({f"hpo/{arm.name}/{state}": count for state, count in counts.items()})
    context.parent.log_text(page({arm.name: arm.search for arm in arms}, list(plan.directions)), "search.html")
    return sum(len(outstanding(goal.slots[arm.name], arm.search.attempts())) for arm in arms)


def _teach(context: Context) -> None:
    """Have the teacher read the rows, and add to the figures of a process that was killed."""
    known = tracking.record(context.parent.run_id).metrics
    passes, read = teach(context)
    figures = {"hpo/teacher_passes": passes, "hpo/teacher_rows": read}
    context.parent.log_metrics({name: known.get(name, 0) + value for name, value in figures.items()})


def _run_while(
    to_do: Callable[[], bool], plan: SearchPlan, context: Context, arms: list[Arm], follower: Follower
) -> None:
    """Run trials while there is something to do: in this process, or in several beside it."""
    if plan.config.workers == 1:
        while to_do():
            follower.update()
            if not run_one(context, arms, follower.step):
                time.sleep(POLL_S)
        return
    with trial_workers(plan.config.workers, at_work, (plan, context.parent.run_id)) as check:
        while to_do():
            follower.update()
            check()
            time.sleep(POLL_S)


def _count_passes(context: Context, arms: list[Arm]) -> None:
    """Count the trials in which the teacher had to read rows: elsewhere, or for a cache that was gone."""
    names = {study.name for study in _studies(arms)}
    records = tracking.runs([context.experiment], "tags.`kd.stage` = 'trial'")
    within = sum("cost/teacher_s" in one.metrics for one in records if one.tags["kd.study"] in names)
    context.parent.log_metrics({"hpo/teacher_passes_in_trials": within})


def _studies(arms: list[Arm]) -> list[Study]:
    return [study for arm in arms for study in (arm.search, arm.finals)]


def join(plan: SearchPlan, arms: list[Arm], leads: Study) -> bool:
    """Run trials for the process that leads, until that one is done or gone; returns whether its time was up."""
    label, config = wanted_of(plan.config), plan.config
    while (lead := _leading(leads)) is None or "run_id" not in lead.notes:
        time.sleep(POLL_S)
        if lead is None or leads.reclaim():
            return False
    parent, plan = str(lead.notes["run_id"]), replace(plan, experiment=str(lead.notes["experiment"]))
    say(f"Joining: the search is led on {host(lead.notes[WORKER])} (run {parent}); with {config.workers} workers here")
    goal = _goal(plan, arms)
    if config.arm != "control":
        teach(context_of(plan, tracking.Run(parent)))
    tags = {"kd.stage": "hpo", "kd.study": plan.name, "kd.joined": parent}
    with (
        tracking.run(f"hpo {plan.name}, joined", tags) if tracking.under_mlflow_run() else nullcontext(),
        trial_workers(config.workers, at_work, (plan, parent)) as check,
        Follower(arms, goal, list(plan.directions), config.workers, None) as follower,
    ):
        while _leading(leads) is not None:
            leads.reclaim()
            follower.update()
            check()
            time.sleep(POLL_S)
        follower.update()
    last = next(trial for trial in leads.trials() if trial.attempt.number == lead.attempt.number)
    return lead.notes["asked"] == label and last.notes.get(TEXT) == LATE  # or it would be searched for as long again
