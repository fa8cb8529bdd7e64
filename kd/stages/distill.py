"""Train a student on the labels and on what the teacher says."""

import shlex
from dataclasses import fields, replace

from kd import tracking
from kd.config import DistillConfig, StudentConfig
from kd.stages import student
from kd.stages.console import say
from kd.stages.fitting import Where, train
from kd.stages.guidance import guidance
from kd.stages.plans import Plan
from kd.stages.registering import register
from kd.stages.rows import Rows, describe, load_rows
from kd.stages.transfer import identity_of, in_words, with_transfer
from kd.stages.weights import Located


def run(config: DistillConfig) -> None:
    """Train, evaluate, log, profile and register a distilled student."""
    with tracking.session(config.experiment) as experiment:
        rows = load_rows(config, config.seed)
        describe(config, rows)
        outcome = train(plan(config, rows), config, Where(experiment))
        name, version = register(outcome, config, rows)
        say(f"Registered {name} version {version}")
        _point_to_control(config, outcome.run_id, experiment)


def _point_to_control(config: DistillConfig, run_id: str, experiment: str) -> None:
    """Say how to compare the student with its control, and how to train the control where there is none."""
    tags = tracking.record(run_id).tags
    if "kd.control_arm" in tags:
        query = f"tags.`kd.arm` = '{tags['kd.control_arm']}' and tags.`kd.seed` = '{config.seed}'"
        if not tracking.runs([experiment], query):
            command = _control_command(config, tags["kd.teacher"], experiment)
            say(f"Its control, the same student without a teacher, is still to be trained: {command}")
    say(f"Compare: python -m entrypoints.compare --experiments {shlex.quote(experiment)}")


def _control_command(config: DistillConfig, teacher: str, experiment: str) -> str:
    """Return the command that trains the control of a distilled student."""
    given = {field.name: getattr(config, field.name) for field in fields(StudentConfig)}
    given |= {"teacher": teacher, "experiment": experiment}
    defaults = {field.name: field.default for field in fields(StudentConfig)}
    words = [word for name, value in given.items() if value != defaults[name] for word in (f"--{name}", str(value))]
    return shlex.join(["python", "-m", "entrypoints.student", *words])


def planned(config: StudentConfig, rows: Rows) -> Plan:
    """Decide the training that options of `distill` or of `student` ask for."""
    return plan(config, rows) if isinstance(config, DistillConfig) else student.plan(config, rows)


def plan(config: DistillConfig, rows: Rows) -> Plan:
    """Decide the training of a distilled student: its control's plan, with the teacher's terms added.

    Raises:
        UserError: as for a control, or the objective does not suit student and teacher.
    """
    located, teacher = student.find_teacher(config, rows)
    control = student.plan(config, rows, (located, teacher))
    guided = guidance(config, control, teacher)
    if not guided.terms:
        return replace(control, stage="distill")
    role, taught_as = _taught_as(located, config.seed)
    more = with_transfer(config, rows)
    if more.transfer:
        control = replace(control, rows=more, signal=student.signal_of(config, more, located, teacher))
    return replace(
        control,
        stage="distill",
        role="distilled",
        title=control.title.replace("student ·", f"distill {guided.words}{role}{in_words(config)} ·", 1),
        identity={**control.identity, **guided.identity, **taught_as, **identity_of(more)},
        control=control.identity,
        terms=guided.terms,
        weights={str(name): weight for name, weight in config.weights.items()},
        alpha=config.alpha,
    )


def _taught_as(teacher: Located, seed: int) -> tuple[str, dict[str, str]]:
    """Return what a title and an arm say of a teacher that is a student itself, as in self-training; else nothing.

    Where it was trained with the same seed, the arm has its arm in place of its weights: each seed has its own teacher.
    """
    tags = tracking.record(teacher.run_id).tags if teacher.run_id else {}
    if tags.get("kd.role") not in ("student", "distilled"):
        return "", {}
    return f" from a {tags['kd.role']}", {"teacher": tags["kd.arm"]} if tags["kd.seed"] == str(seed) else {}
