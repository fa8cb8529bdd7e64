"""What a distilled student minimises beside its own loss: the terms of its objective, built for two models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from kd.base.types import Objective, ObjectiveTerm, Setting, Shape, UserError
from kd.config import DistillConfig
from kd.config.objective import parse_match, plays_a_part
from kd.models.activations import check
from kd.models.load import same_tokens
from kd.models.matching import layer_pairs, without_last
from kd.objectives import OBJECTIVES
from kd.run.plan import Plan, Teacher


@dataclass(frozen=True)
class Described:
    """An objective built.

    Attributes:
        objective: without terms where the student learns from the truth alone.
        identity: what of the options and the teacher makes the learned weights what they are.
        words: the same in short, for a title.
    """

    objective: Objective
    identity: Mapping[str, Any]
    words: str


def objective_of(config: DistillConfig, control: Plan, teacher: Teacher) -> Described:
    """Build the objective for a control's student and its teacher.

    Raises:
        UserError: an objective that means nothing for the task, layers that cannot be mapped, processors that differ
            where tokens are compared, or a model that does not give what is compared.
    """
    _require_meaning(config, control)
    terms = terms_between(config, shape(control.model), shape(teacher.model))
    if not terms:
        return Described(Objective(), {}, "")
    deep = [term for term in terms if term.needs.teacher]
    if compared := terms if control.rows.task.per_token else tuple(deep):
        _require_same_tokens(config, control, teacher, ",".join(term.name for term in compared))
    if deep:
        inputs = control.rows.task.collate(control.processor)(control.features("validation").__getitems__([0])).inputs
        check(control.model, inputs, [name for term in deep for name in term.needs.student], "student")
        check(teacher.model, inputs, [name for term in deep for name in term.needs.teacher], "teacher")
    tempered, jsd = plays_a_part("temperature", config.weights), plays_a_part("beta", config.weights)
    identity: dict[str, Any] = {"temperature": config.temperature} if tempered else {}
    identity |= {"beta": config.beta} if jsd else {}
    if deep:  # by layers: two maps that say the same are the same
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
    """Refuse an objective that the task has no use for."""
    known = control.rows.task.objectives
    if strange := [name for name in config.weights if name not in ("none", *known)]:
        raise UserError(
            f"objective={config.objective!r}: {strange[0]} means nothing for task={config.task!r}: give some of "
            f"{', '.join(known)}"
        )


def shape(model: PreTrainedModel) -> Shape:
    """Return what terms must know of a model; 0 where it has no such number."""
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


def _require_same_tokens(config: DistillConfig, control: Plan, teacher: Teacher, names: str) -> None:
    """Refuse to compare token by token what different tokenizers have cut."""
    ours, theirs = control.processor, teacher.processor
    if ours is None or theirs is None or same_tokens(ours, theirs):
        return
    task = control.rows.task
    other = "" if task.per_token else " give an objective that compares answers, such as soft, or"
    raise UserError(
        f"objective={config.objective!r}: {names} compares token by token, but the student's tokenizer "
        f"({_named(ours)}, of {config.student!r}) is not the teacher's ({_named(theirs)}, of "
        f"{teacher.located.uri!r}):{other} give a student with that tokenizer"
    )


def _named(tokenizer: Any) -> str:
    return f"{type(tokenizer).__name__}, {len(tokenizer)} entries, padding {tokenizer.padding_side}"
