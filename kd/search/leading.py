"""Who leads a search, what it does until all trials have ended, and what a process does that joins it."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

from kd import tracking
from kd.base.console import say
from kd.base.harmless import without_secrets
from kd.base.processes import host
from kd.base.types import Stopped, UserError
from kd.config import HpoConfig, as_params
from kd.search.lease import WORKER, RunningTrial, Superseded
from kd.search.optuna_study import Study
from kd.search.page import page
from kd.search.prepare import SearchArm, SearchPlan, first_tries, teach
from kd.search.progress import following
from kd.search.result import conclude
from kd.search.retries import Attempt, Slot, outstanding
from kd.search.schedule import Goal, advance, reconcile, search_slots, tally
from kd.search.trial import run_one, trial_workers

POLL_S = 1.0
LATE = "the time was up"
"""Why a lead ended that left trials out; the same command continues with them."""


def wanted_of(config: HpoConfig) -> str:
    """Name what a command wants of the study: a second one that wants the same has nothing to do."""
    budgets = (config.latency_budget_ms, config.ram_budget_mib, config.size_budget_mib, *config.named_devices.items())
    return f"{config.arm}, {config.n_trials} trials, top {config.top_k}, seeds {config.final_seeds}, budgets {budgets}"


def require_runs(plan: SearchPlan, leads: Study) -> None:
    """Refuse a study whose runs are elsewhere: what its trials left behind would not be found."""
    for one in leads.attempts():
        if one.run_id and not tracking.status(one.run_id):
            what = f"study_name={plan.name!r} exists, but its runs (such as {one.run_id}) are not in "
            mend = "set MLFLOW_TRACKING_URI to the store it was begun with, or give another study_name"
            raise UserError(f"{what}{tracking.tracking_uri()}: {mend}")


def elected(leads: Study) -> RunningTrial | None:
    """Take the lead, unless another process has it: leads come one after the other, each a slot of its own."""
    leads.reclaim()
    attempts = leads.attempts()
    leads.queue([Slot(f"lead {sum(one.state == 'complete' for one in attempts)}")], attempts)
    return leads.claim()


def finished(leads: Study, label: str) -> Attempt | None:
    """Return the lead that did what is wanted, if there is one."""
    done = [one for one in leads.attempts() if one.state == "complete" and one.notes.get("asked") == label]
    return done[-1] if done else None


def _leading(leads: Study) -> Attempt | None:
    """Return the lead that is under way."""
    return next((one for one in leads.attempts() if one.state == "running"), None)


def take_part(plan: SearchPlan, arms: list[SearchArm], leads: Study) -> None:
    """Lead the search, or join the process that leads it, until what is wanted is done or the time is up."""
    while (done := finished(leads, wanted_of(plan.config))) is None:
        if (claim := elected(leads)) is not None:
            try:
                lead(plan, arms, leads, claim)
                return
            except Superseded:
                say("This process was silent for so long that another one has taken the lead")
        if join(plan, arms, leads):
            say("The time of this search was up; the same command continues with the trials that are missing")
            return
    run = tracking.record(done.run_id)
    say(f"This search is finished (run {run.run_id}); a larger n_trials continues it, another study_name begins anew.")
    for line in run.tags.get("mlflow.note.content", "").splitlines():
        say(line)


def lead(plan: SearchPlan, arms: list[SearchArm], leads: Study, claim: RunningTrial) -> None:
    """Lead the search: open its run, have all trials run, and conclude."""
    earlier = next((one.run_id for one in reversed(leads.attempts()) if one.run_id), "")
    asked, place = wanted_of(plan.config), without_secrets(plan.place)
    tags = {"kd.stage": "hpo", "kd.asked": asked, "kd.study": plan.name, "kd.storage": place,
            "kd.task": plan.config.task, "kd.dataset": plan.config.dataset}  # fmt: skip
    try:
        goal = _goal(plan, arms)
        with claim.alive(), tracking.run(f"hpo {plan.name}", tags, continued=earlier) as parent:
            claim.note(experiment=plan.experiment, asked=asked, run_id=parent.run_id)  # for which those who join wait
            parent.log_params({**as_params(plan.config), "storage": without_secrets(plan.config.storage)})
            plan = replace(plan, parent=parent)
            left = _search(plan, arms, goal, claim)
            conclude(plan, arms)
    except BaseException as error:
        claim.fail("stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "error", str(error))
        raise
    if left:
        claim.fail("stopped", LATE)
        say(f"The time was up: {left} trials are missing; the same command continues with them")
    else:
        claim.complete([1.0], {})
    say(tracking.look(plan.experiment))


def _goal(plan: SearchPlan, arms: list[SearchArm]) -> Goal:
    minutes = plan.config.timeout_minutes
    deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
    return Goal({arm.name: search_slots(plan.config, arm, first_tries(plan, arm)) for arm in arms}, deadline)


def _search(plan: SearchPlan, arms: list[SearchArm], goal: Goal, claim: RunningTrial) -> int:
    """Have all trials and retrainings run; returns how many trials are missing because the time was up."""

    def to_do() -> bool:
        claim.require()  # or Superseded: a machine that slept must not conclude what others still run
        return not advance(plan, arms, goal)

    studies = [study for arm in arms for study in (arm.search, arm.finals)]
    for study in studies:
        study.reclaim()
        reconcile(plan, study)
    if _is_taught(plan):
        known = tracking.record(plan.parent.run_id).metrics  # of a process that was killed
        figures = dict(zip(("hpo/teacher_passes", "hpo/teacher_rows"), teach(plan.config), strict=True))
        plan.parent.log_metrics({name: known.get(name, 0) + value for name, value in figures.items()})
    _run_while(to_do, plan, arms, goal, leads=True)
    names = {study.name for study in studies}
    trials = tracking.runs([plan.experiment], "tags.`kd.stage` = 'trial'")
    passes = sum("cost/teacher_s" in one.metrics for one in trials if one.tags["kd.study"] in names)
    plan.parent.log_metrics({"hpo/teacher_passes_in_trials": passes})  # elsewhere, or for a cache that was gone
    for study in studies:
        reconcile(plan, study)  # a worker may have been killed between ending the trial and closing its run
    for arm in arms:
        counts = tally(arm.search, goal.slots[arm.name])
        say(f"{arm.name}: {', '.join(f'{count} {state}' for state, count in counts.items())}")
        plan.parent.log_metrics({f"hpo/{arm.name}/{state}": count for state, count in counts.items()})
    plan.parent.log_text(page({arm.name: arm.search for arm in arms}, list(plan.directions)), "search.html")
    return sum(len(outstanding(goal.slots[arm.name], arm.search.attempts())) for arm in arms)


def _is_taught(plan: SearchPlan) -> bool:
    """Whether the teacher reads the rows before any trial."""
    return plan.config.arm != "control" and plan.config.cache != "off"


def _run_while(to_do: Callable[[], bool], plan: SearchPlan, arms: list[SearchArm], goal: Goal, leads: bool) -> None:
    """Run trials while there is something to do: in processes beside this one, or, where one leads alone, here."""
    apart = trial_workers(plan) if plan.config.workers > 1 or not leads else nullcontext()
    with apart as check, following(plan, arms, goal, leads) as follower:
        while to_do():
            follower.update()
            if check is not None:
                check()
            elif run_one(plan, arms, follower.step):
                continue
            time.sleep(POLL_S)
        follower.update()


def join(plan: SearchPlan, arms: list[SearchArm], leads: Study) -> bool:
    """Run trials for the process that leads, until that one is done or gone; returns whether its time was up."""
    while (lead := _leading(leads)) is None or not lead.run_id:
        time.sleep(POLL_S)
        if lead is None or leads.reclaim():
            return False
    plan = replace(plan, experiment=str(lead.notes["experiment"]), parent=tracking.Run(lead.run_id))
    led = f"led on {host(lead.notes[WORKER])} (run {lead.run_id})"
    say(f"Joining: the search is {led}; with {plan.config.workers} workers here")
    goal = _goal(plan, arms)
    if _is_taught(plan):
        teach(plan.config)

    def to_do() -> bool:
        leads.reclaim()
        return _leading(leads) is not None

    tags = {"kd.stage": "hpo", "kd.study": plan.name, "kd.joined": lead.run_id}
    with tracking.run(f"hpo {plan.name}, joined", tags) if tracking.under_mlflow_run() else nullcontext():
        _run_while(to_do, plan, arms, goal, leads=False)
    last = next(one for one in leads.attempts() if one.number == lead.number)
    return last.why == LATE and last.notes["asked"] == wanted_of(plan.config)  # or it would search as long again
