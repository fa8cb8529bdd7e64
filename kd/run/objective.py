"""Build the objective of a distilled student: the terms that it minimises beside its own loss, for two models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from kd.base.task import Processor
from kd.base.types import Objective, ObjectiveTerm, Setting, Shape, UserError
from kd.config import DistillConfig
from kd.config.objective import parse_match, plays_a_part
from kd.models.activations import check
from kd.models.layers import layer_pairs, without_last
from kd.models.load import same_tokens
from kd.objectives import OBJECTIVES
from kd.run.data import Rows
from kd.run.plan import Plan, Teacher


@dataclass(frozen=True)
class Described:
    """An objective, and how it is identified.

    Attributes:
        objective: without terms where the student learns from the truth alone.
        identity: options and digests that decide the learned weights.
        words: the same in short, for a title.
    """

    objective: Objective
    identity: Mapping[str, Any]
    words: str


def objective_of(config: DistillConfig, control: Plan, teacher: Teacher) -> Described:
    """Build the objective for a control's student and its teacher.

    Raises:
        UserError: the task cannot use the objective, layers cannot be mapped, processors differ where tokens are
            compared, or a model does not give what is compared.
    """
    _require_meaning(config, control)
    terms = terms_between(config, shape(control.model), shape(teacher.model))
    if not terms:
        return Described(Objective(), {}, "")
    ours = Read(control.model, control.processor, config.student)
    require_comparable(config, control.rows, terms, ours, Read(teacher.model, teacher.processor, teacher.located.uri))
    deep = [term for term in terms if term.needs.teacher]
    tempered, jsd = plays_a_part("temperature", config.weights), plays_a_part("beta", config.weights)
    identity: dict[str, Any] = {"temperature": config.temperature} if tempered else {}
    identity |= {"beta": config.beta} if jsd else {}
    if deep:  # by layers: two maps of the same pairs are the same
        identity["layers compared"] = {term.name: [term.needs.student, term.needs.teacher] for term in deep}
    identity |= {"objective": config.objective, "alpha": config.alpha, "teacher": teacher.located.digest}
    matched = plays_a_part("match", config.weights) and config.match != "spaced"
    words = [config.objective]
    words += [f"T={config.temperature:.3g}"] if tempered else []
    words += [f"beta={config.beta:.3g}"] if jsd else []
    words += [f"match={config.match}"] if matched else []
    weights = {str(name): weight for name, weight in config.weights.items()}
    described = " ".join([*words, f"a={config.alpha:.3g}"])
    return Described(Objective(terms, weights, config.alpha), identity, described)


def _require_meaning(config: DistillConfig, control: Plan) -> None:
    """Refuse an objective that the task cannot use."""
    known = control.rows.task.objectives
    if strange := [name for name in config.weights if name not in ("none", *known)]:
        raise UserError(
            f"objective={config.objective!r}: {strange[0]} means nothing for task={config.task!r}: give some of "
            f"{', '.join(known)}"
        )


def shape(model: PreTrainedModel) -> Shape:
    """Return the sizes of a model that terms need; 0 where it has no such number."""
    return Shape(
        *(getattr(model.config, name, 0) for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    )


def terms_between(config: DistillConfig, student: Shape, teacher: Shape) -> tuple[ObjectiveTerm, ...]:
    """Build the terms of an objective between models of these shapes.

    Raises:
        UserError: layers that cannot be mapped.
    """
    match = parse_match(config.match)
    matched = plays_a_part("match", config.weights)
    pairs = layer_pairs(match, student.layers, teacher.layers) if matched else ()
    inner = without_last(pairs, student.layers, teacher.layers) if isinstance(match, str) else pairs
    setting = Setting(config.temperature, config.beta, student, teacher, pairs, inner)
    built = (OBJECTIVES[name](setting) for name in config.weights)
    return tuple(term for term in built if term is not None)


@dataclass(frozen=True)
class Read:
    """A model, its processor, and the name of both in errors."""

    model: PreTrainedModel
    processor: Processor
    name: str


def require_comparable(
    config: DistillConfig, rows: Rows, terms: Sequence[ObjectiveTerm], student: Read, teacher: Read
) -> None:
    """Check that two models read the same tokens where tokens are compared, and give the layers that are compared.

    Raises:
        UserError: they do not.
    """
    deep = [term for term in terms if term.needs.teacher]
    if compared := terms if rows.task.per_token else deep:
        _require_same_tokens(config, rows, ",".join(term.name for term in compared), student, teacher)
    if deep:
        inputs = _first_inputs(rows, student.processor)
        check(student.model, inputs, [name for term in deep for name in term.needs.student], "student")
        check(teacher.model, inputs, [name for term in deep for name in term.needs.teacher], "teacher")


def _first_inputs(rows: Rows, processor: Processor) -> Mapping[str, Any]:
    features = rows.task.encode(rows.splits.validation.select([0]), processor)
    return rows.task.collate(processor)([{**features[0], "feature": 0}]).inputs


def _require_same_tokens(config: DistillConfig, rows: Rows, names: str, student: Read, teacher: Read) -> None:
    ours, theirs = student.processor, teacher.processor
    if ours is None or theirs is None or same_tokens(ours, theirs):
        return
    other = "" if rows.task.per_token else " give an objective that compares answers, such as soft, or"
    raise UserError(
        f"objective={config.objective!r}: {names} compares token by token, but the student's tokenizer "
        f"({_named(ours)}, of {student.name!r}) is not the teacher's ({_named(theirs)}, of {teacher.name!r}):{other} "
        "give a student with that tokenizer"
    )


def _named(tokenizer: Any) -> str:
    return f"{type(tokenizer).__name__}, {len(tokenizer)} entries, padding {tokenizer.padding_side}"
