"""The whole comparison in one command: teacher once, then control and distilled student on every seed."""

from collections.abc import Iterable

from kd import tracking
from kd.analysis.table import Doubt
from kd.base.console import command, say
from kd.config import CompareConfig, DistillConfig, MainConfig, StudentConfig, as_params, listed, narrowed
from kd.report.findings import beside, find
from kd.report.publish import doubts_of, publish, show, where
from kd.run import teacher
from kd.run.data import Rows, describe, rows_of, short_name
from kd.run.distill import planned
from kd.run.execute import Outcome, Where, train
from kd.run.measured import measure
from kd.run.pace import Pace
from kd.run.register import register_best


def run(config: MainConfig) -> None:
    """Train everything, measure it in one sitting, compare, register the best on validation as challenger."""
    with tracking.session(config.experiment) as experiment:
        rows = rows_of(config)
        describe(config, rows)
        tags = {"kd.stage": "main", "kd.dataset": config.dataset}
        with tracking.run(f"main {short_name(config.dataset)}", tags) as parent:
            parent.log_params(as_params(config))
            pace = Pace(2 * len(config.seed_list) + (not config.teacher_is_finished))
            where = Where(experiment, parent, reuse=True, profile=False, pace=pace)
            guide = teacher.finished(config, rows, where)
            outcomes = _students(config, rows, guide, where)
            ours = [] if config.teacher_is_finished else [tracking.maker(guide, "teacher")]
            measure([*ours, *(outcome.run_id for outcome in outcomes)], config)
            against = _compare([outcome.run_id for outcome in outcomes], experiment, parent)
            register_best(outcomes, config, rows, against)
    say(f"Beside other runs of the experiment: {command('compare', '--experiments', experiment)}")
    say(tracking.look(experiment))


def _students(config: MainConfig, rows: Rows, guide: str, where: Where) -> list[Outcome]:
    outcomes = []
    for seed in config.seed_list:
        for kind in (StudentConfig, DistillConfig):
            options = narrowed(kind, config, teacher=guide, seed=seed)
            outcomes.append(train(planned(options, rows), options, where))
    if reused := sum(outcome.reused for outcome in outcomes):
        say(f"{reused} of {len(outcomes)} students reused: they were trained before with these options")
    return outcomes


def _compare(run_ids: Iterable[str], experiment: str, parent: tracking.Run) -> list[Doubt]:
    """Show and log the comparison of these runs, their teacher and the baselines; returns what it says against them."""
    records = {run_id: tracking.record(run_id) for run_id in run_ids}
    question = CompareConfig(runs=",".join([*records, *beside(records, experiment)]))
    findings, notes = find([tracking.record(run_id) for run_id in listed(question.runs)], question)
    show(findings, notes, brief=True)
    publish(findings, notes, question, parent)
    say(where(parent))
    return doubts_of(findings)
