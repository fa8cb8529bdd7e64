"""The end of a search: the winner by fresh seeds on validation, scored once on test, compared and registered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from kd import tracking
from kd.base.budgets import budgets_of
from kd.base.console import console, hushed, say
from kd.base.types import Refused, RunRecord, UserError
from kd.config import CompareConfig
from kd.report.findings import find
from kd.report.publish import publish, show, where
from kd.report.tables import answer
from kd.run.distill import planned
from kd.run.execute import Outcome, Where, log_baselines
from kd.run.fit import score_test
from kd.run.plan import titled
from kd.run.register import register
from kd.search.optuna_study import Trial
from kd.search.result_tables import finalist_tables, winner_lines
from kd.search.retries import counting
from kd.search.schedule import finalists
from kd.search.trial import Arm, Context, options
from kd.serving.measure import is_profiled, measure_apart
from kd.sweep.cells import rows_of
from kd.sweep.compared import beside


@dataclass(frozen=True)
class Finalist:
    """One of the best trials, trained anew.

    Attributes:
        arm: its arm's name.
        trial: as the search saw it.
        anew: its retrainings, one a fresh seed.
        values: their first direction on validation.
        record: the run of the first of them, with its profile.
    """

    arm: str
    trial: Trial
    anew: tuple[Trial, ...]
    values: tuple[float, ...]
    record: RunRecord

    @property
    def mean(self) -> float:
        """Mean over the fresh seeds."""
        return fmean(self.values)

    @property
    def fits(self) -> bool:
        """Whether it kept every budget it was measured against."""
        return "false" not in [value for tag, value in self.record.tags.items() if tag.startswith("kd.fits_")]


def conclude(context: Context, arms: Sequence[Arm]) -> None:
    """Pick the winners, score them on test, compare them, register the best on validation, and say it all.

    Raises:
        UserError: no trial could be retrained on every fresh seed.
        Refused: none of those retrained keeps the budgets.
    """
    sign = 1 if next(iter(context.directions.values())) else -1
    winners, texts = [], []
    for arm in arms:
        field = _retrained(context, arm)
        fitting = [one for one in field if one.fits]
        winner = max(fitting, key=lambda one: sign * one.mean) if fitting else None
        table, markdown = finalist_tables(context.directions, field, winner)
        console.print(table)
        if winner is None:
            raise Refused(f"none of the {len(field)} trials that were retrained keeps the budgets; nothing was scored")
        lines = winner_lines(context.directions, arm.search, winner)
        for line in lines:
            say(line)
        context.parent.log_metrics(_optimism(arm, winner, sign))
        winners.append(winner)
        texts += [f"**{arm.name}**", markdown, *lines]
    for winner in winners:
        _score(context, winner, next((one for one in winners if one.arm == "control"), winner))
    texts += _verdict(context, winners)
    texts.append(_register(context, winners, sign))
    context.parent.describe("\n\n".join([*texts, "Pictures: Artifacts, search.html and report.html."]))


def _retrained(context: Context, arm: Arm) -> list[Finalist]:
    """Return the best trials that have a model for every fresh seed; the first model of each is profiled, alone."""
    alive = counting(arm.finals.attempts())
    ended = {trial.attempt.number: trial for trial in arm.finals.trials()}
    found = []
    for trial in finalists(arm.search, context.config.top_k):
        names = [f"{trial.attempt.number}/{seed}" for seed in context.config.seed_list]
        anew = [ended[alive[name].number] for name in names if name in alive and alive[name].state == "complete"]
        if len(anew) < len(names):
            say(f"Note: trial {trial.attempt.number} failed on a fresh seed, and is left out")
            continue
        run_id = str(anew[0].notes["run_id"])
        if not is_profiled(tracking.record(run_id).metrics) or budgets_of(context.config):
            say(f"Measuring trial {trial.attempt.number}, retrained, in a fresh process")
            measure_apart(str(anew[0].notes["model"]), run_id, context.config)
        values = tuple(one.values[0] for one in anew)
        found.append(Finalist(arm.name, trial, tuple(anew), values, tracking.record(run_id)))
    if not found:
        raise UserError(f"study {arm.finals.name!r}: no trial could be retrained on every fresh seed; see its runs")
    return found


def _optimism(arm: Arm, winner: Finalist, sign: int) -> dict[str, float]:
    """Return how much better the winner looked in the search than it is on fresh seeds; over 0 is too good."""
    first = winner.trial.values[0]
    return {
        f"hpo/{arm.name}/first_estimate": first,
        f"hpo/{arm.name}/fresh_mean": winner.mean,
        f"hpo/{arm.name}/optimism": sign * (first - winner.mean),
    }


def _score(context: Context, winner: Finalist, control: Finalist) -> None:
    """Score each fresh-seed model of a winner on test, once; its runs now count as results."""
    stage = "distill" if winner.arm == "distill" else "student"
    for one in winner.anew:
        run = tracking.Run(str(one.notes["run_id"]))
        record = tracking.record(run.run_id)
        tags = {"kd.stage": stage}
        if record.tags["kd.stage"] == "trial":  # else it has been scored before
            label = f"tuned {record.label}"
            tags |= {"kd.label": label, "mlflow.runName": titled(label, record.tags["kd.seed"])}
        if winner is not control:
            tags |= {"kd.control_arm": control.record.tags["kd.arm"], "kd.tuned": "true"}  # as its control is
        if record.tags.get("kd.test_scored") != "true":
            seed = int(one.attempt.params["seed"])
            given = options(context.config, winner.arm, winner.trial.attempt.params, seed)
            rows = rows_of(context.config, seed)
            stored = tracking.stored_model(str(one.notes["model"]), "model")
            trained, _ = rows.task.load(stored.folder, "model", finished=True)
            with hushed():
                plan = planned(given, rows)
            run.set_tags({"mlflow.runName": f"tuned {plan.title}"})
            score_test(replace(plan, model=trained), given, run)
            log_baselines(rows, given, Where(context.experiment, context.parent))
        run.set_tags(tags)


def _verdict(context: Context, winners: Sequence[Finalist]) -> list[str]:
    """Compare the winners' fresh seeds, with their teacher and the trivial baselines; returns the answers."""
    ids = [str(one.notes["run_id"]) for winner in winners for one in winner.anew]
    records = {run_id: tracking.record(run_id) for run_id in ids}
    metric = next(iter(context.directions))
    compared = CompareConfig(runs=",".join([*records, *beside(records, context.experiment)]), metric=metric)
    findings, notes = find([*map(tracking.record, compared.runs.split(","))], compared)
    show(findings, notes)
    publish(findings, notes, compared, context.parent)
    say(where(context.parent))
    if [winner.arm for winner in winners] == ["distill"]:
        say("Whether distillation helps is for a tuned control to say: the same command with --arm both adds it")
    return [answer(table) for table, _ in findings]


def _register(context: Context, winners: Sequence[Finalist], sign: int) -> str:
    """Register the model that is best on validation, and point the alias challenger at it."""
    scored = [(value, one) for winner in winners for value, one in zip(winner.values, winner.anew, strict=True)]
    _, best = max(scored, key=lambda pair: sign * pair[0])
    rows = rows_of(context.config, context.config.seed)
    outcome = Outcome(str(best.notes["run_id"]), str(best.notes["model"]), reused=True)
    if not is_profiled(tracking.record(outcome.run_id).metrics):  # it is not the first of its finalist
        measure_apart(outcome.model, outcome.run_id, context.config)
    name, version = register(outcome, context.config, rows)
    tracking.set_alias(name, "challenger", version)
    record = tracking.record(outcome.run_id)
    text = (
        f"Registered {name} version {version}, alias challenger: {record.name}, the best winner's model on validation"
    )
    say(text)
    say(f"Promote it: python -m entrypoints.promote --model {name} --min_metric VALUE, see --help for more gates")
    return text
