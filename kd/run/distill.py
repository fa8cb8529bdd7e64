"""The plan of a distilled student: trained on the labels and on the teacher's outputs."""

from dataclasses import replace

from kd import tracking
from kd.config import DistillConfig, StudentConfig
from kd.run import student
from kd.run.data import Rows
from kd.run.encode import encoder
from kd.run.locate import Located
from kd.run.objective import objective_of
from kd.run.plan import Plan
from kd.run.signals import TeacherSignals
from kd.run.transfer import identity_of, in_words, with_transfer


def planned(config: StudentConfig, rows: Rows) -> Plan:
    """Plan the training that options of `distill` or of `student` describe."""
    return plan(config, rows) if isinstance(config, DistillConfig) else student.plan(config, rows)


def plan(config: DistillConfig, rows: Rows) -> Plan:
    """Plan the training of a distilled student: its control's plan, with the teacher's terms added.

    Raises:
        UserError: as for a control, or the objective does not suit task, student and teacher.
    """
    teacher = student.find_teacher(config, rows)
    control = student.plan(config, rows, teacher)
    built = objective_of(config, control, teacher)
    if not built.objective.terms:
        return replace(control, stage="distill")
    role, taught_as = _taught_as(teacher.located, config.seed)
    more = with_transfer(config, rows)
    if more.transfer:
        features, signals = encoder(config, more, control.processor), TeacherSignals(config, more, teacher)
        control = replace(control, rows=more, features=features, signals=signals)
    return replace(
        control,
        stage="distill",
        role="distilled",
        method=f"distill {built.words}{role}{in_words(config)}",
        identity={**control.identity, **built.identity, **taught_as, **identity_of(more)},
        control=control.identity,
        objective=built.objective,
    )


def _taught_as(teacher: Located, seed: int) -> tuple[str, dict[str, str]]:
    """Return words and identity of a teacher that is itself a student, as in self-training; else nothing.

    A teacher of the same seed is identified by its arm instead of its weights, because each seed has its own teacher.
    """
    tags = tracking.record(teacher.run_id).tags if teacher.run_id else {}
    if tags.get("kd.role") not in ("student", "distilled"):
        return "", {}
    return f" from a {tags['kd.role']}", {"teacher": tags["kd.arm"]} if tags["kd.seed"] == str(seed) else {}
