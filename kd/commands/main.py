"""The whole comparison in one command: teacher once, then control and distilled student on every seed."""

from dataclasses import dataclass
from typing import Any

from kd import tracking
from kd.base.console import command, say
from kd.base.terminal import console
from kd.config import DistillConfig, MainConfig, StudentConfig, as_params, narrowed
from kd.report.publish import doubts_of, publish, show, where
from kd.report.tables import Section, rich_tables
from kd.run import teacher
from kd.run.data import Rows, describe, parts_of, rows_of, short_name
from kd.run.distill import planned, require_layers
from kd.run.execute import Outcome, Where, train
from kd.run.pace import Pace
from kd.run.register import register_best
from kd.sweep.compared import ComparedTrainings, compared
from kd.sweep.parts import parts_section


@dataclass(frozen=True)
class Part:
    """What was trained on one part of the data: all of it, or a patient's, say."""

    config: MainConfig
    rows: Rows
    outcomes: list[Outcome]


def run(config: MainConfig) -> None:
    """Train everything, measure it in one sitting, compare, register the best on validation as challenger."""
    with tracking.session(config.experiment) as experiment:
        parts = parts_of(config)
        for one in parts:
            describe(one, rows_of(one))
            require_layers(narrowed(DistillConfig, one, seed=0), rows_of(one).task)
        tags = {"kd.stage": "main", "kd.dataset": config.dataset}
        with tracking.run(f"main {short_name(config.dataset)}", tags) as parent:
            parent.log_params(as_params(config))
            _say_of_control(config)
            students = len(_students(config)) * len(config.seed_list)
            pace = Pace(len(parts) * (students + (not config.teacher_is_finished)))
            place = Where(experiment, parent, reuse=True, profile=False, pace=pace)
            trained = []
            for number, one in enumerate(parts, 1):
                if len(parts) > 1:
                    say(f"Part {number} of {len(parts)}: {one.task_options.part}")
                trained.append(_part(one, place))
            found = compared([outcome.run_id for one in trained for outcome in one.outcomes], config, experiment)
            sections = [_by_part(trained, found)] if len(trained) > 1 else []
            if not sections:
                show(found.findings, found.notes, brief=True)
            publish(found.findings, found.notes, found.comparing, parent, sections)
            say(where(parent))
            for part in trained:
                register_best(part.outcomes, part.config, part.rows, doubts_of(found.findings))
    say(f"Beside other runs of the experiment: {command('compare', '--experiments', experiment)}")
    say(tracking.look(experiment))


def _part(config: MainConfig, where: Where) -> Part:
    rows = rows_of(config)
    guide = teacher.finished(config, rows, where)
    outcomes = []
    for seed in config.seed_list:
        for kind, own in _students(config):
            options = narrowed(kind, config, teacher=guide, seed=seed, **own)
            outcomes.append(train(planned(options, rows), options, where))
    if reused := sum(outcome.reused for outcome in outcomes):
        say(f"{reused} of {len(outcomes)} students reused: they were trained before with these options")
    return Part(config, rows, outcomes)


def _students(config: MainConfig) -> list[tuple[type[StudentConfig], dict[str, Any]]]:
    """Return what is trained on each seed: the student, the control where that is another, and the distilled student.

    Each is the options' class with those options that are not `config`'s: a control has its distilled student's.
    """
    own = config.distilling
    control: list[tuple[type[StudentConfig], dict[str, Any]]] = [(StudentConfig, own)] if own else []
    return [(StudentConfig, {}), *control, (DistillConfig, own)]


def _say_of_control(config: MainConfig) -> None:
    """Say against what the verdict is, where the distilled student is trained otherwise than the student."""
    if own := config.distilling:
        theirs = ", ".join(f"{name}={value:g}" for name, value in own.items())
        plain = ", ".join(f"{name}={getattr(config, name):g}" for name in own)
        say(
            f"The distilled student is trained with {theirs}, the student with {plain}: a control with {theirs} is "
            "trained too, and the verdict is against that."
        )


def _by_part(trained: list[Part], found: ComparedTrainings) -> Section:
    """Show how each part did, and all together; the tables of each are in the report."""
    tables = {table.digest: table for table, _ in found.findings}
    named = {part.config.task_options.part: tables[part.rows.test_digest] for part in trained}
    section = parts_section(named, type(trained[0].rows.task))
    for line in section.lines:
        say(line)
    for heading, cells, _ in section.tables:
        console.print(*rich_tables(heading, cells), sep="\n")
    return section
