"""The plan of a distilled student: its control's plan, with the terms that compare it with its teacher."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from kd import tracking
from kd.base.task import Task
from kd.base.types import Objective, ObjectiveTerm, Setting, Shape, UserError
from kd.config import DistillConfig, StudentConfig
from kd.config.objective import parse_match, plays_a_part
from kd.models.activations import check
from kd.models.layers import layer_pairs, without_last
from kd.models.load import same_tokens
from kd.models.students import SIZES
from kd.objectives import OBJECTIVES
from kd.run import student
from kd.run.data import Rows, short_name, with_transfer
from kd.run.encode import encoder
from kd.run.locate import Loaded, Located
from kd.run.plan import Plan
from kd.run.signals import TeacherSignals
from kd.run.trial import trial_batch


def planned(config: StudentConfig, rows: Rows) -> Plan:
    """Plan the training that options of `distill` or of `student` describe."""
    return plan(config, rows) if isinstance(config, DistillConfig) else student.plan(config, rows)


def plan(config: DistillConfig, rows: Rows) -> Plan:
    """Plan the training of a distilled student.

    Raises:
        UserError: as for a control; or the task cannot use the objective, layers cannot be mapped, processors differ
            where tokens are compared, or a model does not give what is compared.
    """
    require_layers(config, rows.task)
    control = student.plan(config, rows)
    teacher = control.teacher
    assert teacher is not None
    if strange := [name for name in config.weights if name not in ("none", *rows.task.objectives)]:
        allowed = f"task={config.task!r}: give some of {', '.join(rows.task.objectives)}"
        raise UserError(f"objective={config.objective!r}: {strange[0]} means nothing for {allowed}")
    terms = terms_between(config, shape(control.model), shape(teacher.model))
    if not terms:
        return replace(control, stage="distill")
    require_comparable(config, rows, terms, control, teacher)
    identity, words = _described(config, terms)
    origin, taught_as = _taught_as(teacher.located, config.seed)
    identity |= {"teacher": teacher.located.digest, **taught_as}
    more = with_transfer(config, rows)
    if more.transfer_digest:
        features, signals = encoder(config, more, control.processor), TeacherSignals(config, more, teacher)
        control = replace(control, rows=more, features=features, signals=signals)
        filters = {"confidence": config.transfer_confidence, "balanced": config.transfer_balance}
        identity |= {"transfer": more.transfer_digest, **filters}
        sure = f" p>={config.transfer_confidence:.3g}" if config.transfer_confidence else ""
        origin += f" + {short_name(config.transfer)}{sure}{' balanced' if config.transfer_balance else ''}"
    return replace(
        control,
        stage="distill",
        role="distilled",
        method=f"distill {words}{origin}",
        identity={**control.identity, **identity},
        control=control.identity,
        objective=Objective(terms, {str(name): weight for name, weight in config.weights.items()}, config.alpha),
    )


def require_layers(config: DistillConfig, task: Task) -> None:
    """Refuse to compare layers with a model that is made by name, and has none to compare. Raises UserError."""
    for option in ("teacher", "student"):
        name = getattr(config, option)
        if plays_a_part("match", config.weights) and name in task.named:
            raise UserError(
                f"objective={config.objective!r}: compares layers, and {option}={name!r} has none that could be "
                f"compared: give one that compares answers, such as {task.objectives[0]}"
            )


def _described(config: DistillConfig, terms: Sequence[ObjectiveTerm]) -> tuple[dict[str, Any], str]:
    """Return what of an objective decides the learned weights, and the same in short, for a title."""
    identity: dict[str, Any] = {"objective": config.objective, "alpha": config.alpha}
    words = config.objective
    for option, short in (("temperature", "T"), ("beta", "beta")):
        if plays_a_part(option, config.weights):
            identity[option] = getattr(config, option)
            words += f" {short}={identity[option]:.3g}"
    if plays_a_part("match", config.weights) and config.match != "spaced":
        words += f" match={config.match}"
    if compared := {term.name: [term.needs.student, term.needs.teacher] for term in _deep(terms)}:
        identity["layers compared"] = compared  # by layers: two maps of the same pairs are the same
    return identity, f"{words} a={config.alpha:.3g}"


def _taught_as(teacher: Located, seed: int) -> tuple[str, dict[str, str]]:
    """Return words and identity of a teacher that is itself a student, as in self-training; else nothing.

    A teacher of the same seed is identified by its arm instead of its weights, because each seed has its own teacher.
    """
    tags = tracking.record(teacher.run_id).tags if teacher.run_id else {}
    if tags.get("kd.role") not in ("student", "distilled"):
        return "", {}
    return f" from a {tags['kd.role']}", {"teacher": tags["kd.arm"]} if tags["kd.seed"] == str(seed) else {}


def shape(model: PreTrainedModel) -> Shape:
    """Return the sizes of a model that terms need; 0 where it has no such number."""
    return Shape(*(getattr(model.config, name, 0) for name in SIZES))


def terms_between(config: DistillConfig, ours: Shape, theirs: Shape) -> tuple[ObjectiveTerm, ...]:
    """Build the terms of an objective between a student and a teacher of these shapes.

    Raises:
        UserError: layers that cannot be mapped.
    """
    match = parse_match(config.match)
    matched = plays_a_part("match", config.weights)
    for whose, one in (("student", ours), ("teacher", theirs)):
        if matched and not one.layers:
            raise UserError(f"objective={config.objective!r}: compares layers, and the {whose} has none: give another")
    pairs = layer_pairs(match, ours.layers, theirs.layers) if matched else ()
    inner = without_last(pairs, ours.layers, theirs.layers) if isinstance(match, str) else pairs
    setting = Setting(config.temperature, config.beta, ours, theirs, pairs, inner)
    built = (OBJECTIVES[name](setting) for name in config.weights)
    return tuple(term for term in built if term is not None)


def _deep(terms: Sequence[ObjectiveTerm]) -> list[ObjectiveTerm]:
    """Return the terms that compare layers."""
    return [term for term in terms if term.needs.teacher]


def require_comparable(
    config: DistillConfig, rows: Rows, terms: Sequence[ObjectiveTerm], ours: Plan | Loaded, theirs: Loaded
) -> None:
    """Check that student and teacher read the same tokens where tokens are compared, and give the layers compared.

    Raises:
        UserError: they do not.
    """
    deep = _deep(terms)
    words, others = processors = ours.processor, theirs.processor
    compared = terms if rows.task.per_token else deep
    if rows.task.reads_tokens and compared and None not in (words, others) and not same_tokens(words, others):
        advice = "" if rows.task.per_token else " give an objective that compares answers, such as soft, or"
        raise UserError(
            f"objective={config.objective!r}: {','.join(term.name for term in compared)} compares token by token, but "
            f"the student's tokenizer ({_named(words)}, of {config.student!r}) is not the teacher's "
            f"({_named(others)}, of {theirs.located.uri!r}):{advice} give a student with that tokenizer"
        )
    if deep:
        for one, processor, whose in zip((ours, theirs), processors, ("student", "teacher"), strict=True):
            batch = trial_batch(rows, processor)
            length = rows.task.masks(batch)["tokens"].shape[1]
            check(
                one.model, batch.inputs, length, [name for term in deep for name in getattr(term.needs, whose)], whose
            )


def _named(tokenizer: Any) -> str:
    return f"{type(tokenizer).__name__}, {len(tokenizer)} entries, padding {tokenizer.padding_side}"
