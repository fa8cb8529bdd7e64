"""The whole comparison in one command: teacher once, then control and distilled student on every seed."""

from dataclasses import asdict

from kd import tracking
from kd.config import CompareConfig, DistillConfig, MainConfig, StudentConfig, narrowed
from kd.stages import distill, student, teacher
from kd.stages.compare import find, publish, show, where
from kd.stages.console import say
from kd.stages.fitting import Outcome, Where, train
from kd.stages.registering import register
from kd.stages.rows import Rows, describe, load_rows, short_name
from kd.types import RunRecord


def run(config: MainConfig) -> None:
    """Run everything, compare, register the best on validation as challenger."""
    with tracking.session(config.experiment) as experiment:
        rows = load_rows(config, config.seed)
        describe(config, rows)
        with tracking.run(
            f"main {short_name(config.dataset)}", {"kd.stage": "main", "kd.dataset": config.dataset}
        ) as parent:
            parent.log_params(asdict(config))
            where = Where(experiment, parent, reuse=True)
            guide = teacher.finished(config, rows, where)
            outcomes = _students(config, guide, where)
            _compare(experiment, rows, parent)
            _register_best(outcomes, config, rows)
    say("Look at the runs: make ui, or: mlflow ui")


def _students(config: MainConfig, guide: str, where: Where) -> list[Outcome]:
    outcomes = []
    for seed in config.seed_list:
        rows = load_rows(config, seed)
        control = narrowed(StudentConfig, config, teacher=guide, seed=seed)
        outcomes.append(train(student.plan(control, rows), control, where))
        distilled = narrowed(DistillConfig, config, teacher=guide, seed=seed)
        outcomes.append(train(distill.plan(distilled, rows), distilled, where))
    if reused := sum(outcome.reused for outcome in outcomes):
        say(f"{reused} of {len(outcomes)} students reused: they were trained before with these options")
    return outcomes


def _compare(experiment: str, rows: Rows, parent: tracking.Run) -> None:
    """Show and keep the comparison of all that the experiment has on these test rows, as `compare` would."""
    tested = f"tags.`kd.test_digest` = '{rows.test_digest}' and tags.`kd.stage` != 'trial'"
    asked = CompareConfig(experiments=experiment, filter=tested)
    findings, notes = find(tracking.runs([experiment], asked.filter), asked)
    show(findings, notes)
    publish(findings, notes, asked, parent)
    say(where(parent))


def _register_best(outcomes: list[Outcome], config: MainConfig, rows: Rows) -> None:
    """Register the student that is best on validation, and point the alias challenger at it."""
    metric, higher = next(iter(rows.task.directions.items()))
    records: dict[str, RunRecord] = {outcome.run_id: tracking.record(outcome.run_id) for outcome in outcomes}

    def quality(outcome: Outcome) -> float:
        value = records[outcome.run_id].metrics[f"val/{metric}"]
        return value if higher else -value

    best = max(outcomes, key=quality)
    name, version = register(best, config, rows)
    tracking.set_alias(name, "challenger", version)
    record = records[best.run_id]
    say(f"Best on validation: {record.name} (val {metric} {record.metrics[f'val/{metric}']:.3f})")
    say(f"Registered {name} version {version}, alias challenger")
    say(f"Promote it: python -m entrypoints.promote --model {name} --min_metric VALUE, see --help for more gates")
