"""The end of a search: the winner by fresh seeds on validation, scored once on test, compared and registered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from kd import tracking
from kd.analysis.table import Doubt
from kd.base.budgets import FITS_DEVICE
from kd.base.busy import explained, marked, measured_model, was_busy
from kd.base.console import hushed, say
from kd.base.harmless import in_markdown
from kd.base.types import Refused, RunRecord, UserError
from kd.config import CompareConfig
from kd.report.findings import beside, find
from kd.report.publish import doubts_of, publish, show, where
from kd.report.tables import Finding, markdown_table, rich_tables, verdicts
from kd.run.data import rows_of
from kd.run.distill import planned
from kd.run.execute import Outcome, Where, log_baselines
from kd.run.fit import score_test
from kd.run.measured import measure
from kd.run.plan import titled
from kd.run.register import challenge
from kd.search.optuna_study import Study
from kd.search.prepare import SearchArm, SearchPlan, options
from kd.search.progress import in_words
from kd.search.retries import Attempt, counting
from kd.search.schedule import finalists

COSTS = {"p95 ms": "profile/latency_ms_p95", "RAM MiB": "profile/ram_peak_mib", "disk MiB": "model/size_mib"}


@dataclass(frozen=True)
class Finalist:
    """One of the best trials, trained anew.

    Attributes:
        arm: its arm's name.
        trial: as the search saw it.
        anew: its retrainings, one a fresh seed.
        record: the run of that of them which is best on validation, with its profile.
    """

    arm: str
    trial: Attempt
    anew: tuple[Attempt, ...]
    record: RunRecord

    @property
    def mean(self) -> float:
        """Mean of the first direction on validation over the fresh seeds."""
        return fmean(one.values[0] for one in self.anew)

    @property
    def fits(self) -> bool:
        """Whether it kept every budget it was measured against."""
        budgets = (tag for tag in self.record.tags if tag.startswith("kd.fits_") and not tag.startswith(FITS_DEVICE))
        return all(self.record.tags[tag] != "false" for tag in budgets)

    def optimism(self, higher: bool) -> float:
        """Return how much better the trial looked in the search than it is on fresh seeds; over 0 is too good."""
        return (self.trial.values[0] - self.mean) * (1 if higher else -1)


def conclude(plan: SearchPlan, arms: Sequence[SearchArm]) -> None:
    """Pick the winners, score them on test, compare them, register the best on validation, and say it all.

    UserError where no trial could be retrained on every fresh seed; Refused where none of those keeps the budgets.
    """
    higher = next(iter(plan.directions.values()))
    retrained = {arm.name: _retrained(plan, arm, higher) for arm in arms}
    measure([one.record.run_id for field in retrained.values() for one in field], plan.config)
    winners, texts = [], []
    for arm in arms:
        field = [replace(one, record=tracking.record(one.record.run_id)) for one in retrained[arm.name]]
        fitting = sorted((one for one in field if one.fits), key=lambda one: one.mean, reverse=higher)
        winner = next(iter(fitting), None)
        rows = finalist_cells(plan.directions, field, winner)
        note = explained(measured_model(one.record) for one in field if was_busy(one.record.tags))
        heading = f"{arm.name}: the best trials, retrained on fresh seeds"
        if note:
            say(note)
        for part in rich_tables(heading, rows):
            say(part)
        if winner is None:
            raise Refused(f"none of the {len(field)} trials that were retrained keeps the budgets; nothing was scored")
        lines = winner_lines(plan.directions, arm.search, winner)
        for line in lines:
            say(line)
        figures = {"first_estimate": winner.trial.values[0], "fresh_mean": winner.mean}
        figures["optimism"] = winner.optimism(higher)
        plan.parent.log_metrics({f"hpo/{arm.name}/{name}": value for name, value in figures.items()})
        winners.append(winner)
        texts += [f"**{arm.name}**", *filter(None, [in_markdown(note)]), "\n".join(markdown_table(rows))]
        texts += map(in_markdown, lines)
    for one in winners:
        _score(plan, one, winners[0])
    findings = _compared(plan, winners)
    texts += [in_markdown(line) for table, _ in findings for line in verdicts(table).splitlines()]
    against = doubts_of(findings)
    texts.append(in_markdown(_register(plan, winners, higher, against)))
    first = [in_markdown(doubt.sentence) for doubt in against]
    plan.parent.describe("\n\n".join([*first, *texts, "Pictures: Artifacts, search.html and report.html."]))


def _retrained(plan: SearchPlan, arm: SearchArm, higher: bool) -> list[Finalist]:
    """Return the best trials that have a model for every fresh seed."""
    complete = {slot: one for slot, one in counting(arm.finals.attempts()).items() if one.state == "complete"}
    found = []
    for trial in finalists(arm.search, plan.config.top_k):
        names = [f"{trial.number}/{seed}" for seed in plan.config.seed_list]
        if not complete.keys() >= {*names}:
            say(f"Note: trial {trial.number} failed on a fresh seed, and is left out")
            continue
        anew = tuple(complete[name] for name in names)
        best = _best(anew, higher)
        found.append(Finalist(arm.name, trial, anew, tracking.record(best.run_id)))
    if not found:
        raise UserError(f"study {arm.finals.name!r}: no trial could be retrained on every fresh seed; see its runs")
    return found


def _best(anew: Sequence[Attempt], higher: bool) -> Attempt:
    return sorted(anew, key=lambda one: one.values[0], reverse=higher)[0]


def finalist_cells(
    directions: Mapping[str, bool], field: Sequence[Finalist], winner: Finalist | None
) -> list[list[str]]:
    """Return header and rows: the finalists of an arm, in the search's order."""
    names = list(directions)
    rows = [["trial", *(f"{name} then" for name in names), f"{names[0]} anew", *COSTS, "parameters"]]
    for one in field:
        mark = " (winner)" if one is winner else "" if one.fits else " (over budget)"
        then = [f"{value:.4g}" for value in one.trial.values]
        anew = f"{one.mean:.4g} ({', '.join(f'{each.values[0]:.4g}' for each in one.anew)})"
        known = one.record.metrics
        costs = [marked(f"{known[key]:.1f}", key, one.record.tags) if key in known else "" for key in COSTS.values()]
        rows.append([f"{one.trial.number}{mark}", *then, anew, *costs, in_words(one.trial.params)])
    return rows


def winner_lines(directions: Mapping[str, bool], search: Study, winner: Finalist) -> list[str]:
    """Say who won, and how far the search's own estimate was from what fresh seeds gave."""
    name, higher = next(iter(directions.items()))
    first, excess = winner.trial.values[0], winner.optimism(higher)
    how = f"was too good by {excess:.3g}" if excess > 0 else "was kept"
    top = search.ranked()[0]
    lines = [
        f"Winner of {winner.arm}: trial {winner.trial.number} ({in_words(winner.trial.params)}), "
        f"by its mean on validation over {len(winner.anew)} fresh seeds",
        f"Its first estimate {how}: {name} {first:.4g} in the search, {winner.mean:.4g} on fresh seeds",
    ]
    if top.values[0] != first:
        lines.append(
            f"The best of the search, trial {top.number}, at {top.values[0]:.4g}, did worse on fresh seeds, or keeps "
            "no budget, or was not retrained"
        )
    return lines


def _score(plan: SearchPlan, winner: Finalist, control: Finalist) -> None:
    """Score each fresh-seed model of a winner on test, once; its runs now count as results."""
    for one in winner.anew:
        run = tracking.Run(one.run_id)
        record = tracking.record(run.run_id)
        tags = {"kd.stage": "distill" if winner.arm == "distill" else "student"}
        if record.tags["kd.stage"] == "trial":  # else it has been scored before
            label = f"tuned {record.label}"
            tags |= {"kd.label": label, "mlflow.runName": titled(label, record.tags["kd.seed"])}
        if winner is not control:
            tags |= {"kd.control_arm": control.record.tags["kd.arm"], "kd.tuned": "true"}  # as its control is
        if record.tags.get("kd.test_scored") != "true":
            seed = int(one.params["seed"])
            given = options(plan.config, winner.arm, winner.trial.params, seed)
            rows = rows_of(plan.config)
            stored = tracking.stored_model(str(one.notes["model"]), "model")
            trained, _ = rows.task.load(stored.folder, "model", finished=True)
            with hushed():
                training = planned(given, rows)
            run.set_tags({"mlflow.runName": f"tuned {training.title}"})
            score_test(replace(training, model=trained), given, run)
            log_baselines(rows, given, Where(plan.experiment, plan.parent))
        run.set_tags(tags)


def _compared(plan: SearchPlan, winners: Sequence[Finalist]) -> list[Finding]:
    """Compare the winners' fresh seeds, with their teacher and the trivial baselines, and show it."""
    records = {one.run_id: tracking.record(one.run_id) for winner in winners for one in winner.anew}
    runs = [*records, *beside(records, plan.experiment)]
    compared = CompareConfig(runs=",".join(runs), metric=next(iter(plan.directions)))
    findings, notes = find([*map(tracking.record, runs)], compared)
    show(findings, notes)
    publish(findings, notes, compared, plan.parent)
    say(where(plan.parent))
    if [winner.arm for winner in winners] == ["distill"]:
        say("Whether distillation helps is for a tuned control to say: the same command with --arm both adds it")
    return findings


def _register(plan: SearchPlan, winners: Sequence[Finalist], higher: bool, against: Sequence[Doubt]) -> str:
    """Register the model that is best on validation, and point the alias challenger at it."""
    anew = [one for winner in winners for one in winner.anew]
    best = _best(anew, higher)
    outcome = Outcome(best.run_id, str(best.notes["model"]), reused=True)
    why = f": {tracking.record(outcome.run_id).name}, the best winner's model on validation"
    return challenge(outcome, plan.config, rows_of(plan.config), against, why)
