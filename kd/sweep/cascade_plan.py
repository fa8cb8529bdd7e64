"""The steps of a cascade, in words and as options of `distill`, and their checks before any training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from kd.analysis.statistics import MIN_SEEDS
from kd.base.console import say
from kd.base.types import Shape, UserError
from kd.config import CascadeConfig, DistillConfig, narrowed
from kd.models.layers import layer_map
from kd.run.data import Rows
from kd.run.locate import locate
from kd.run.objective import Read, require_comparable, shape, terms_between
from kd.run.plan import Teacher
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
    """A step from a model to the student that learns from it, which `start` says in options of `distill`.

    It takes the cascade's `epochs` so many `times`.
    """

    before: Member
    after: Member
    start: Mapping[str, Any]
    times: int = 1

    @property
    def words(self) -> str:
        """Such as 6→4."""
        return f"{self.before.words}→{self.after.words}"

    def options(self, config: CascadeConfig, teacher: str, seed: int) -> DistillConfig:
        """Return the options of the step's student."""
        epochs = config.epochs * self.times
        return narrowed(DistillConfig, config, **self.start, teacher=teacher, seed=seed, epochs=epochs)


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
    members = members_of(config)
    chain = [Link(before, after, _start(config, after, "")) for before, after in pairwise(members)]
    last = members[-1]
    return [*chain, Link(members[0], last, _start(config, last, last.source), len(chain))]


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
    wanted, depth = members_of(config)[0].layers, shape(loaded[""].model).layers
    if wanted not in (None, depth):
        raise UserError(
            f"{named} starts at {wanted}, but teacher={config.teacher!r} has {depth} layers: give {depth} first"
        )
    for link in links_of(config):
        try:
            _require_step(link, link.options(config, config.teacher, config.seed), rows, loaded)
        except UserError as error:
            raise UserError(f"{named}, step {link.words}: {error}") from error
    count = len(config.seed_list)
    say(f"{trainings(config)} trainings: each step and the direct route, with a control, on {count} seeds")
    if count < MIN_SEEDS:
        say(f"Warning: with fewer than {MIN_SEEDS} seeds no difference can be claimed: give seeds, such as 0,1,2")


def _loaded(config: CascadeConfig, rows: Rows) -> dict[str, Teacher]:
    """Load the teacher, by the name "", and the models that students start from, by theirs."""
    found = {}
    for source in ("", *dict.fromkeys(member.source for member in members_of(config) if member.source)):
        name, option = (source, "student") if source else (config.teacher, "teacher")
        try:
            located = locate(name, option)
            finished = not source and config.teacher_is_finished
            found[source] = Teacher(located, *rows.task.load(located.folder, option, finished=finished))
        except UserError as error:
            raise UserError(f"chain={config.chain!r}: {error}") from error
    return found


def _require_step(link: Link, config: DistillConfig, rows: Rows, loaded: Mapping[str, Teacher]) -> None:
    """Check that a student can be cut, and compared with its teacher."""
    ours, theirs = (_shape(member, loaded) for member in (link.after, link.before))
    if link.after.layers is not None:
        depth = shape(loaded[config.student].model).layers if config.student else theirs.layers
        chosen = config.initialisation or "spaced"
        layer_map(link.after.layers, chosen, depth, "student" if config.student else "teacher", lambda: (0.0,) * depth)
    sides = (loaded[member.source] for member in (link.after, link.before))
    student, teacher = (Read(one.model, one.processor, one.located.uri) for one in sides)
    require_comparable(config, rows, terms_between(config, ours, theirs), student, teacher)


def _shape(member: Member, loaded: Mapping[str, Teacher]) -> Shape:
    whole = shape(loaded[member.source].model)
    return whole if member.layers is None else replace(whole, layers=member.layers)
