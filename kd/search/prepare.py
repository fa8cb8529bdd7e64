"""What a search is, worked out and checked before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from kd import tracking
from kd.base.console import hushed, say
from kd.base.hashing import fingerprint
from kd.base.task import Task
from kd.base.types import UserError
from kd.config import DistillConfig, HpoConfig, StudentConfig, default_of, narrowed
from kd.config.hpo import LIMITED
from kd.models.precision import resolve_precision
from kd.run import student
from kd.run.data import Rows, describe, rows_of, short_name
from kd.run.distill import planned
from kd.run.locate import Loaded, Located
from kd.search.optuna_study import Sampling, Study
from kd.search.storage import existing, open_storage, open_study, place_of
from kd.space.parameters import OF_TEACHER, Space, as_json, check_space, extremes, for_control, within
from kd.space.reading import load_space
from kd.space.values import SEARCHABLE
from kd.tasks import task_named

ARMS = {"distill": ("distill",), "control": ("control",), "both": ("control", "distill")}
ROWS = {
    "control": ("labelled", "epoch_rows"),
    "distill": ("labelled", "epoch_rows", "transfer", "transfer_confidence", "transfer_balance"),
}
"""Options that say on what an arm is trained, where they are given."""


@dataclass(frozen=True)
class SearchArm:
    """What is tuned: the distilled student or its control, in a study of its own."""

    name: str
    space: Space
    search: Study
    finals: Study


@dataclass(frozen=True)
class SearchPlan:
    """A search; it can be sent to another process.

    Attributes:
        config: its options; the teacher resolved to a version.
        experiment: name of the experiment.
        name: of the study; those of the control, of retrainings and of the lead are named after it.
        place: of the studies; it may contain a password.
        directions: what is optimised, and whether higher is better.
        spaces: by arm.
        identities: what each arm's search is, in JSON's types; commands that differ in it cannot share a study.
        parent: run the trials are nested in, once a process leads.
    """

    config: HpoConfig
    experiment: str
    name: str
    place: str
    directions: Mapping[str, bool]
    spaces: Mapping[str, Space]
    identities: Mapping[str, Mapping[str, Any]]
    parent: tracking.Run = tracking.Run("")  # noqa: RUF009

    def arms(self) -> list[SearchArm]:
        """Open the studies of every arm; UserError where the storage cannot be used, or has another search's."""
        storage, config = open_storage(self.place), self.config
        points = [point for space in self.spaces.values() for point in extremes(space, {"epochs"})]
        most = max(point.get("epochs", config.epochs) for point in points)
        how = Sampling(config.sampler, config.pruner, most, config.seed)
        found = []
        for arm, space in self.spaces.items():
            name = self.name if arm == "distill" else f"{self.name}-control"
            opened = partial(open_study, storage, directions=self.directions, identity=self.identities[arm], how=how)
            found.append(SearchArm(arm, space, opened(name), opened(f"{name}-finals")))
        return found

    def leads(self, storage: BaseStorage) -> Study:
        """Open the study of who leads: each lead is a slot of its own."""
        return open_study(storage, f"{self.name}-lead", {"done": True}, {}, Sampling())


def options(config: HpoConfig, arm: str, params: Mapping[str, Any], seed: int) -> StudentConfig:
    """Return what `distill` or `student` would be given for these parameters."""
    return narrowed(DistillConfig if arm == "distill" else StudentConfig, config, **{**params, "seed": seed})


def prepare(config: HpoConfig, experiment: str) -> SearchPlan:
    """Read the rows, find the teacher, and check the space; UserError where one is wrong, before any training."""
    named = f"space={config.space!r}"
    space = _space(config, named)
    spaces = {arm: space if arm == "distill" else for_control(space) for arm in ARMS[config.arm]}
    if not all(spaces.values()):
        raise UserError(f"{named} searches nothing that a student without a teacher has: add learning_rate, say")
    directions = _directions(config, task_named(config.task))
    rows = rows_of(config)
    describe(config, rows)
    teacher = student.find_teacher(config, rows)
    located = teacher.located
    config = replace(config, teacher=located.uri)  # a version registered meanwhile changes nothing
    _check_layers(config, space, rows, teacher, named)
    identities = {arm: _identity(config, arm, each, rows, located) for arm, each in spaces.items()}
    shared = {**_identity(config, "distill", space, rows, located), "store": tracking.tracking_uri()}
    name = config.study_name or f"{short_name(config.dataset)}-{fingerprint({**shared, 'experiment': experiment})[:8]}"
    return SearchPlan(config, experiment, name, place_of(config.storage, name), directions, spaces, identities)


def _space(config: HpoConfig, named: str) -> Space:
    """Return the space of the distilled student, read and checked."""
    builtin = task_named(config.task).spaces
    space = load_space(config.space, builtin)
    if config.space in builtin:
        space = _without_given(space, config)
    check_space(space, config, named)
    if config.arm == "both" and any(one.name == "student_layers" for one in space):
        raise UserError(
            f"{named} searches student_layers, and arm='both' compares one student with and without a teacher: "
            "give student_layers as an option, or search one arm"
        )
    return space


def _without_given(space: Space, config: HpoConfig) -> Space:
    """Leave out of a built-in space what the command line decides."""
    given = {one.name for one in space if getattr(config, one.name) != default_of(config, one.name)}
    if given:
        say(f"Not searched, because given: {', '.join(f'{name}={getattr(config, name)}' for name in sorted(given))}")
    if "," in config.student_layers or (config.student and not config.student_layers):
        given.add("initialisation")  # the layers are known
    if config.student_config:
        given |= {"initialisation", "student_layers"}
    return tuple(one for one in space if one.name not in given and not given & {*one.when})


def _directions(config: HpoConfig, task: type[Task]) -> dict[str, bool]:
    wanted = config.directed or (next(iter(task.directions)),)
    known = {**task.directions, **dict.fromkeys(LIMITED, False)}
    if unknown := [name for name in wanted if name not in known]:
        raise UserError(
            f"directions={config.directions!r}: {unknown[0]!r} is not known: give some of "
            f"{', '.join(task.directions)}, size, latency, parameters"
        )
    return {name: known[name] for name in sorted(wanted, key=lambda name: name in LIMITED)}


def _check_layers(config: HpoConfig, space: Space, rows: Rows, teacher: Loaded, named: str) -> None:
    """Build a student of every shape that the space may draw."""
    names = ("student_layers", "initialisation")
    points = extremes(space, names)
    for shape in sorted({tuple((name, str(point[name])) for name in names if name in point) for point in points}):
        try:
            with hushed():
                student.initialise(options(config, "control", dict(shape), config.seed), rows, teacher)
        except UserError as error:
            raise UserError(f"{named}: {error}" if shape else str(error)) from error


def _identity(config: HpoConfig, arm: str, space: Space, rows: Rows, teacher: Located) -> dict[str, Any]:
    searched = {one.name for one in space}
    left = [name for name in SEARCHABLE if name not in searched and (arm == "distill" or name not in OF_TEACHER)]
    return {
        "arm": arm,
        "space": as_json(space),
        "directions": config.directions,
        "constraints": dict(sorted(config.limits.items())),
        "rows": rows.train_digest if config.max_train else rows.full_digest,
        "validation": rows.digest("validation"),
        "test": rows.digest("test"),
        "teacher": teacher.digest,
        "precision": resolve_precision(config.precision),
        **rows.task.identity(),
        **({"student_config": config.student_settings} if config.student_config else {}),
        **{name: getattr(config, name) for name in ("seed", "max_train", "student", *left)},
        **{name: value for name in ROWS[arm] if (value := getattr(config, name))},
    }


def teach(config: HpoConfig) -> tuple[int, int]:
    """Have the teacher read the training rows, once for all trials here; returns (times it read, rows it read)."""
    with hushed():
        plan = planned(options(config, "distill", {}, config.seed), rows_of(config))
    computed = plan.signals.train(plan.objective.contents).computed if plan.signals is not None else 0
    return int(computed > 0), computed


def first_tries(plan: SearchPlan, arm: SearchArm) -> list[dict[str, Any]]:
    """Return the parameters that `warm_start` names, as far as the space has them, best first.

    UserError where there is no such study or version, or nothing of it fits.
    """
    source = plan.config.warm_start
    if not source:
        return []
    if source.startswith("models:/"):
        given: list[Mapping[str, Any]] = [tracking.record(tracking.model_version(source, "warm_start").run_id).params]
    else:
        names = (f"{source}-control", source) if arm.name == "control" else (source,)
        elsewhere = place_of("", source)  # without `storage` each study is a file of its own
        apart = not plan.config.storage and Path(elsewhere).exists()
        found = existing(open_storage(elsewhere) if apart else arm.search.storage, names)
        given = [one.params for one in found[: plan.config.top_k]]
    fitting = [within(arm.space, params) for params in given]
    for left_out in sorted({word for _, words in fitting for word in words}):
        say(f"Note: warm_start={source!r}: {left_out}")
    first = [params for params, _ in fitting if params]
    if not first:
        raise UserError(f"warm_start={source!r} has no parameters that are in the space of {arm.name}: leave it out")
    return first
