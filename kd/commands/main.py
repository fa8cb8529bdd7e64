"""The whole comparison in one command: teacher once, then control and distilled student on every seed."""

from kd import tracking
from kd.base.console import command, say
from kd.config import DistillConfig, MainConfig, StudentConfig, as_params, narrowed
from kd.report.publish import doubts_of, publish, show, where
from kd.run import teacher
from kd.run.data import Rows, describe, rows_of, short_name
from kd.run.distill import planned
from kd.run.execute import Outcome, Where, train
from kd.run.pace import Pace
from kd.run.register import register_best
from kd.sweep.compared import compared


def run(config: MainConfig) -> None:
    """Train everything, measure it in one sitting, compare, register the best on validation as challenger."""
    with tracking.session(config.experiment) as experiment:
        rows = rows_of(config)
        describe(config, rows)
        tags = {"kd.stage": "main", "kd.dataset": config.dataset}
        with tracking.run(f"main {short_name(config.dataset)}", tags) as parent:
            parent.log_params(as_params(config))
            pace = Pace(2 * len(config.seed_list) + (not config.teacher_is_finished))
            place = Where(experiment, parent, reuse=True, profile=False, pace=pace)
            guide = teacher.finished(config, rows, place)
            outcomes = _students(config, rows, guide, place)
            found = compared([outcome.run_id for outcome in outcomes], config, experiment)
            show(found.findings, found.notes, brief=True)
            publish(found.findings, found.notes, found.comparing, parent)
            say(where(parent))
            register_best(outcomes, config, rows, doubts_of(found.findings))
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
