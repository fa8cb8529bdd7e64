"""What a distilled student is told by its teacher: the terms of its objective, built for these two models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kd.base.types import ObjectiveTerm, Setting, Shape, UserError
from kd.config import DistillConfig
from kd.config.objective import parse_match, plays_a_part
from kd.models.activations import check
from kd.models.load import load_tokenizer, same_tokens
from kd.models.matching import layer_pairs, without_last
from kd.objectives import OBJECTIVES
from kd.run.plan import Plan


@dataclass(frozen=True)
class Guidance:
    """An objective built.

    Attributes:
        terms: one a name; none where the student learns from the labels alone.
        identity: what of the options and the teacher makes the learned weights what they are.
        words: the same in short, for a title.
    """

    terms: tuple[ObjectiveTerm, ...]
    identity: Mapping[str, Any]
    words: str


def guidance(config: DistillConfig, control: Plan, teacher: PreTrainedModel) -> Guidance:
    """Build the terms of an objective for a control's student and its teacher.

    Raises:
        UserError: layers that cannot be mapped, tokenizers that differ where tokens are compared, or a model that does
            not give what is compared.
    """
    terms = terms_between(config, shape(control.model), shape(teacher))
    if not terms:
        return Guidance((), {}, "")
    if deep := [term for term in terms if term.needs.teacher]:
        _check_tokenizers(config, control, ",".join(term.name for term in deep))
        check(control.model, [name for term in deep for name in term.needs.student], "student")
        check(teacher, [name for term in deep for name in term.needs.teacher], "teacher")
    tempered, jsd = plays_a_part("temperature", config.weights), plays_a_part("beta", config.weights)
    identity: dict[str, Any] = {"temperature": config.temperature} if tempered else {}
    identity |= {"beta": config.beta} if jsd else {}
    if deep:  # by layers: two maps that say the same are the same
        identity["layers compared"] = {term.name: [term.needs.student, term.needs.teacher] for term in deep}
    identity |= {"objective": config.objective, "alpha": config.alpha}
    identity["teacher"] = control.teacher and control.teacher.digest
    matched = plays_a_part("match", config.weights) and config.match != "spaced"
    words = [config.objective]
    words += [f"T={config.temperature:.3g}"] if tempered else []
    words += [f"beta={config.beta:.3g}"] if jsd else []
    words += [f"match={config.match}"] if matched else []
    return Guidance(terms, identity, " ".join([*words, f"a={config.alpha:.3g}"]))


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


def _check_tokenizers(config: DistillConfig, control: Plan, names: str) -> None:
    """Refuse to compare token by token what different tokenizers have cut."""
    assert control.teacher is not None
    theirs = load_tokenizer(control.teacher.folder, "teacher")
    if not same_tokens(control.tokenizer, theirs):
        raise UserError(
            f"objective={config.objective!r}: {names} compares token by token, but the student's tokenizer "
            f"({_named(control.tokenizer)}, of {config.student!r}) is not the teacher's ({_named(theirs)}, of "
            f"{control.teacher.uri!r}): give an objective of soft, hard, jsd and dkd, or a student with that tokenizer"
        )


def _named(tokenizer: PreTrainedTokenizerBase) -> str:
    return f"{type(tokenizer).__name__}, {len(tokenizer)} entries, padding {tokenizer.padding_side}"
