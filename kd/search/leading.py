"""Search hyper-parameters with Optuna: on one process, on several, or on several machines that share a storage."""

import time
from contextlib import nullcontext
from dataclasses import asdict, replace

from kd import tracking
from kd.base.console import say
from kd.base.types import Stopped, UserError
from kd.config import HpoConfig
from kd.search.lease import TEXT, WORKER, Claim
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
"""Why a lead ended that left trials out; the same command goes on with them."""


def asked(config: HpoConfig) -> str:
    """Name what is asked of the study: a command that asks the same again has nothing to do."""
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


def elected(leads: Study) -> Claim | None:
    """Take the lead, unless another process has it: leads come one after the other, each a slot of its own."""
    leads.reclaim()
    attempts = leads.attempts()
    turn = Slot(f"lead {sum(one.state == 'complete' for one in attempts)}")
    for slot in again([turn], attempts):
        leads.add(slot)
    leads.want([turn.name])
    return leads.claim()


def finished(leads: Study, label: str) -> Trial | None:
    """Return the lead that did what is asked, if one has."""
    done = [one for one in leads.trials() if one.attempt.state == "complete" and one.notes.get("asked") == label]
    return done[-1] if done else None


def _leading(leads: Study) -> Trial | None:
    """Return the lead that is under way."""
    return next((trial for trial in leads.trials() if trial.attempt.state == "running"), None)


def tell_finished(done: Trial) -> None:
    """Say that nothing is left to do, and what was found."""
    run_id = str(done.notes["run_id"])
    say(f"This search is finished (run {run_id}); a larger n_trials goes on with it, another study_name begins anew.")
    say(tracking.record(run_id).tags.get("mlflow.note.content", ""))


def lead(plan: SearchPlan, arms: list[Arm], leads: Study, claim: Claim) -> None:
    """Lead the search: open its run, have all trials run, and conclude."""
    earlier = next((str(one.notes["run_id"]) for one in reversed(leads.trials()) if "run_id" in one.notes), "")
    label = asked(plan.config)
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
        say(f"The time was up: {left} trials are missing; the same command goes on with them")
    else:
        claim.complete([1.0], {})
    say("Look at the runs: make ui, or: mlflow ui")


def _goal(plan: SearchPlan, arms: list[Arm]) -> Goal:
    config = plan.config
    deadline = time.monotonic() + 60 * config.timeout_minutes if config.timeout_minutes else float("inf")
    return Goal({arm.name: search_slots(config, arm, first_tries(plan, arm)) for arm in arms}, deadline)


def _search(plan: SearchPlan, context: Context, arms: list[Arm], goal: Goal, claim: Claim) -> int:
    """Have all trials and retrainings run; returns how many trials are missing because the time was up.

    Raises:
        Superseded: another process has taken the lead.
    """
    config = plan.config

    def to_do() -> bool:
        claim.require()  # a machine that slept must not conclude what others are at
        return not advance(context, arms, goal)

    for study in _studies(arms):
        study.reclaim()
        reconcile(context, study)
    if config.arm != "control" and config.cache != "off":
        known = tracking.record(context.parent.run_id).metrics  # of a process that was killed
        passes, read = teach(context)
        figures = {"hpo/teacher_passes": passes, "hpo/teacher_rows": read}
        context.parent.log_metrics({name: known.get(name, 0) + value for name, value in figures.items()})
    with Follower(arms, goal, list(plan.directions), config.workers, context.parent) as follower:
        if config.workers == 1:
            while to_do():
                follower.update()
                if not run_one(context, arms, follower.step):
                    time.sleep(POLL_S)
        else:
            with trial_workers(config.workers, at_work, (plan, context.parent.run_id)) as check:
                while to_do():
                    follower.update()
                    check()
                    time.sleep(POLL_S)
        follower.update()
    _count_passes(context, arms)
    for study in _studies(arms):
        reconcile(context, study)  # a worker may have been killed between telling the study and closing its run
    for arm in arms:
        counts = tally(arm.search, goal.slots[arm.name])
        say(f"{arm.name}: {', '.join(f'{count} {state}' for state, count in counts.items())}")
        context.parent.log_metrics({f"hpo/{arm.name}/{state}": count for state, count in counts.items()})
    context.parent.log_text(page({arm.name: arm.search for arm in arms}, list(plan.directions)), "search.html")
    return sum(len(outstanding(goal.slots[arm.name], arm.search.attempts())) for arm in arms)


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
    label, config = asked(plan.config), plan.config
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
