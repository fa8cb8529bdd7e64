"""What a distilled student is told by its teacher: the terms of its objective, built for these two models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kd.config import DistillConfig
from kd.config.objective import parse_match, plays_a_part
from kd.insides import check
from kd.models.matching import layer_pairs, without_last
from kd.models.sources import load_tokenizer, same_tokens
from kd.objectives import OBJECTIVES
from kd.stages.plans import Plan
from kd.types import ObjectiveTerm, Setting, Shape, UserError


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
    setting = _setting(config, control.model, teacher)
    built = (OBJECTIVES[name](setting) for name in config.weights)
    terms = tuple(term for term in built if term is not None)
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


def _setting(config: DistillConfig, student: PreTrainedModel, teacher: PreTrainedModel) -> Setting:
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads")
    ours, theirs = (Shape(*(getattr(model.config, name, 0) for name in names)) for model in (student, teacher))
    match = parse_match(config.match)
    matched = plays_a_part("match", config.weights)
    pairs = layer_pairs(match, ours.layers, theirs.layers) if matched else ()
    inner = without_last(pairs, ours.layers, theirs.layers) if isinstance(match, str) else pairs
    return Setting(config.temperature, config.beta, ours, theirs, pairs, inner)


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
