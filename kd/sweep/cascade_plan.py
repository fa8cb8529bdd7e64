"""The steps of a cascade, in words and as options of `distill`, and their checks before any training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kd.analysis.statistics import MIN_SEEDS
from kd.base.console import say
from kd.base.types import Shape, UserError
from kd.config import CascadeConfig, DistillConfig, narrowed
from kd.models.layers import layer_map
from kd.run.data import Rows
from kd.run.distill import require_comparable, shape, terms_between
from kd.run.locate import Loaded, load
from kd.run.student import called


@dataclass(frozen=True)
class Member:
    """A model of the chain.

    Attributes:
        words: its number of layers, or the last part of its name.
        source: name of the pretrained weights it starts from; empty where it is cut from the teacher.
        layers: how many are cut from the model before it; None where all of the source are taken.
    """

    words: str
    source: str
    layers: int | None


@dataclass(frozen=True)
class Link:
    """A step from a model to the student that learns from it.

    Attributes:
        words: such as 6→4.
        start: options of `distill` that say what the student starts from.
        times: by how much `epochs` is multiplied.
    """

    words: str
    start: Mapping[str, Any]
    times: int = 1

    def options(self, config: CascadeConfig, teacher: str, seed: int) -> DistillConfig:
        """Return the options of the step's student."""
        return narrowed(
            DistillConfig,
            config,
            **{**self.start, "teacher": teacher, "seed": seed, "epochs": config.epochs * self.times},
        )


def members_of(config: CascadeConfig) -> list[Member]:
    """Return the models of the chain, the teacher first."""
    found: list[Member] = []
    for place, one in enumerate(config.members):
        if isinstance(one, str):
            found.append(Member(called(one), one if place else "", None))
        else:
            found.append(Member(str(one), found[-1].source if place else "", one))
    return found


def links_of(config: CascadeConfig) -> list[Link]:
    """Return the steps in their order and, last, the direct route, of as many epochs as all of them.

    In the chain a student with a number of layers is cut from the model before it. On the direct route it is cut from
    the weights that the chain came to it by, so that both routes end at the same architecture.
    """
    teacher, *others = members_of(config)
    found, before = [], teacher
    for member in others:
        found.append(Link(f"{before.words}→{member.words}", _start(config, member, "")))
        before = member
    direct = Link(f"{teacher.words}→{before.words}", _start(config, before, before.source), len(others))
    return [*found, direct]


def _start(config: CascadeConfig, member: Member, cut_from: str) -> dict[str, Any]:
    if member.layers is None:
        return {"student": member.source, "student_layers": "", "initialisation": None}
    return {"student": cut_from, "student_layers": str(member.layers), "initialisation": config.initialisation}


def chain_in_words(config: CascadeConfig) -> str:
    """Return the chain as a person reads it, such as 6→4→2."""
    return "→".join(member.words for member in members_of(config))


def trainings(config: CascadeConfig) -> int:
    """Count a student and its control for each step and the direct route, on every seed."""
    return 2 * len(config.seed_list) * len(config.members)


def require_chain(config: CascadeConfig, rows: Rows) -> None:
    """Check before any training that the chain starts at the teacher, and that each step can be made.

    Raises:
        UserError: the teacher has another number of layers, a model is not there, or a step's layers or objective
            cannot be.
    """
    named = f"chain={config.chain!r}"
    loaded = _loaded(config, rows)
    teacher, *others = members_of(config)
    depth = shape(loaded[""].model).layers
    if teacher.layers not in (None, depth):
        raise UserError(
            f"{named} starts at {teacher.layers}, but teacher={config.teacher!r} has {depth} layers: give {depth} first"
        )
    before = teacher
    for member, link in zip([*others, others[-1]], links_of(config), strict=True):
        before = teacher if link.times > 1 else before
        try:
            _require_step(link.options(config, config.teacher, config.seed), rows, (before, member), loaded)
        except UserError as error:
            raise UserError(f"{named}, step {link.words}: {error}") from error
        before = member
    count = len(config.seed_list)
    say(f"{trainings(config)} trainings: each step and the direct route, with a control, on {count} seeds")
    if count < MIN_SEEDS:
        say(f"Warning: with fewer than {MIN_SEEDS} seeds no difference can be claimed: give seeds, such as 0,1,2")


def _loaded(config: CascadeConfig, rows: Rows) -> dict[str, Loaded]:
    """Load the teacher, by the name "", and the models that students start from, by theirs."""
    finished = config.teacher.startswith(("models:/", "runs:/"))
    found = {"": _load(config, rows, config.teacher, "teacher", finished)}
    for source in dict.fromkeys(member.source for member in members_of(config) if member.source):
        found[source] = _load(config, rows, source, "student", False)
    return found


def _load(config: CascadeConfig, rows: Rows, name: str, option: str, finished: bool) -> Loaded:
    try:
        return load(rows.task, name, option, finished=finished)
    except UserError as error:
        raise UserError(f"chain={config.chain!r}: {error}") from error


def _require_step(config: DistillConfig, rows: Rows, pair: tuple[Member, Member], loaded: Mapping[str, Loaded]) -> None:
    """Check that a student can be cut, and compared with its teacher."""
    before, after = pair
    theirs, ours = (_shape(member, loaded) for member in pair)
    if after.layers is not None:
        depth = shape(loaded[config.student].model).layers if config.student else theirs.layers
        chosen = config.initialisation or "spaced"
        layer_map(after.layers, chosen, depth, "student" if config.student else "teacher", lambda: (0.0,) * depth)
    student, teacher = (loaded[member.source] for member in (after, before))
    require_comparable(config, rows, terms_between(config, ours, theirs), student, teacher)


def _shape(member: Member, loaded: Mapping[str, Loaded]) -> Shape:
    whole = shape(loaded[member.source].model)
    return whole if member.layers is None else replace(whole, layers=member.layers)
