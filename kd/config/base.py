"""What the options of several entry points share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple, get_args, get_type_hints

from kd.base.budgets import Device
from kd.base.console import shown
from kd.base.numbers import wholes
from kd.base.types import ChallengerName, ObjectiveName, PrecisionName, ResumeName, TaskName, UserError
from kd.config.devices import read_devices


class Range(NamedTuple):
    """What an option may be, stated with its type: `Annotated[int, Range(...)]`; None is always in range."""

    allows: Callable[[Any], object]
    words: str


class Group(NamedTuple):
    """Where `--help` shows an option, if not under its class's heading: `Annotated[int, Group("training")]`."""

    heading: str


NonNegativeInt = Annotated[int, Range(lambda value: value >= 0, "a number >= 0")]
RowCount = Annotated[int, Range(lambda value: value >= 0, "a number of rows, or 0 for all")]
PositiveInt = Annotated[int, Range(lambda value: value >= 1, "a number >= 1")]
NonNegativeFloat = Annotated[float, Range(lambda value: value >= 0, "a number >= 0")]
PositiveFloat = Annotated[float, Range(lambda value: value > 0, "a number > 0")]
Share = Annotated[float, Range(lambda value: 0 <= value <= 1, "a number from 0 to 1")]
DatasetName = Annotated[str, Range(bool, "builtin:apidocs, a hub id, a file or a folder")]


def seed_range(least: int) -> Range:
    """Return the range of a comma-separated option that takes so many different seeds or more."""

    def allows(text: str) -> bool:
        try:
            seeds = wholes(text)
        except ValueError:
            return False
        return len(set(seeds)) == len(seeds) >= least and all(0 <= seed < 2**32 for seed in seeds)

    return Range(allows, f"{least} or more different numbers from 0 to below 2**32, comma-separated, such as 0,1,2")


def listed(names: str) -> tuple[str, ...]:
    """Split a comma-separated option."""
    return tuple(name.strip() for name in names.split(",") if name.strip())


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options: each field is one, with its meaning, unit and range said below it."""

    heading: ClassVar[str] = "options"
    """What `--help` calls the fields that a class introduces."""

    def __post_init__(self) -> None:
        """Refuse what is out of range, by UserError."""
        for option, allowed in _ranges(type(self)).items():  # type: ignore[arg-type]  # a class has a hash
            value = getattr(self, option)
            if value is not None and not allowed.allows(value):
                raise UserError(f"{option}={shown(value)} is out of range: give {allowed.words}")

    def _refuse_beside(self, option: str, *others: str, why: str, instead: str = "") -> None:
        """Refuse each of `others` that is given, that is, differs from its default; `instead` names another way."""
        for other in others:
            if (value := getattr(self, other)) != getattr(type(self), other):
                both = f"{other}={shown(value)} beside {option}={shown(getattr(self, option))}"
                raise UserError(f"{both}: {why}; leave {other} out, or {instead or f'leave out {option}'}")


@cache
def _ranges(kind: type[Options]) -> dict[str, Range]:
    hints = get_type_hints(kind, include_extras=True)
    return {
        field.name: allowed
        for field in fields(kind)
        for hint in (hints[field.name], *get_args(hints[field.name]))
        for allowed in getattr(hint, "__metadata__", ())
        if isinstance(allowed, Range)
    }


@dataclass(frozen=True, kw_only=True)
class TaskOptions(Options):
    """The options of one task, all with a default; `task` says which task. Without fields, a task's defaults."""

    heading: ClassVar[str] = "the task"
    example: ClassVar[str] = ""
    """The task's own options that most users give, with values, for the examples of `--help`."""
    objectives: ClassVar[tuple[ObjectiveName, ...]] = tuple(name for name in get_args(ObjectiveName) if name != "none")
    """The ways of comparing student and teacher that the task has, beside `none`; the first is the default."""
    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Defaults of options that are not its own, where the task has others than most."""
    building: ClassVar[tuple[str, ...]] = ()
    """Those of its options that say what is built around weights, or by name, and nothing of the rows: where a command
    trains the teacher too, they are the teacher's as given, and a student's as its condition says."""

    @property
    def part(self) -> str:
        """What of the data one model is for, such as a patient, as names show it; empty where it is for all."""
        return ""


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(Options):
    """Devices that models are judged for."""

    heading: ClassVar[str] = "measuring"
    devices: str = ""
    """YAML file of devices, each with the RAM and storage that a model may take: which of them it fits is said."""

    def __post_init__(self) -> None:
        """Refuse a file that is not there, or not understood, by UserError."""
        super().__post_init__()
        _ = self.named_devices

    @property
    def named_devices(self) -> dict[str, Device]:
        """The devices by name. Raises UserError where the file cannot be read, or what it says cannot be meant."""
        return read_devices(self.devices) if self.devices else {}


@dataclass(frozen=True, kw_only=True)
class BudgetOptions(DeviceOptions):
    """What a served model may cost."""

    heading: ClassVar[str] = "measuring"
    latency_budget_ms: NonNegativeFloat = 0.0
    """Highest p95 latency of a request in ms; 0 sets no budget."""
    ram_budget_mib: NonNegativeFloat = 0.0
    """Highest peak RAM of the serving process in MiB; 0 sets no budget."""
    size_budget_mib: NonNegativeFloat = 0.0
    """Largest model on disk in MiB; 0 sets no budget."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """Where a training is logged, and whether it continues an interrupted one."""

    heading: ClassVar[str] = "tracking"
    experiment: str = ""
    """MLflow experiment; default MLFLOW_EXPERIMENT_NAME, else `kd`; `mlflow run` chooses it by --experiment-name."""
    resume: Annotated[ResumeName, Group("training")] = "auto"
    """auto continues an interrupted training of the same options; never starts anew."""
    checkpoint_every_s: Annotated[NonNegativeFloat, Group("training")] = 30.0
    """Least seconds between two checkpoints, >= 0; a killed training loses these and an epoch at most."""


@dataclass(frozen=True, kw_only=True)
class RowOptions(Options):
    """Which rows, and what is learned from them."""

    heading: ClassVar[str] = "data"
    dataset: DatasetName
    """builtin:apidocs, or builtin:glucose-sim to forecast; a hub id with config (nyu-mll/glue:mnli); a CSV, TSV, JSONL
    or Parquet file; or a folder."""
    task: TaskName = "classification"
    """What is learned."""
    task_options: TaskOptions = TaskOptions()
    """The task's own options; on the command line each is an option like all others."""
    group_column: str = ""
    """Column whose values never cross splits: document, article, patient."""
    train_file: str = ""
    """File of the training rows, where the dataset folder names it otherwise."""
    validation_file: str = ""
    """File of the validation rows."""
    test_file: str = ""
    """File of the test rows."""
    split_seed: NonNegativeInt = 0
    """Seed of the splits that are cut from train, and of the rows of max_train and labelled, >= 0."""
    max_train: RowCount = 0
    """Use this many training rows, class-balanced and chosen by split_seed; 0 uses all."""
    labelled: RowCount = 0
    """Use the labels of this many training rows alone, class-balanced and chosen by split_seed; 0 uses all."""
    slice_columns: Annotated[str, Group("measuring")] = ""
    """Further columns kept beside each prediction, comma-separated, for `compare` to slice by."""


@dataclass(frozen=True, kw_only=True)
class ChallengerOptions(RowOptions):
    """Which rows, and what becomes of the alias challenger when a model that learned from them is registered."""

    heading: ClassVar[str] = "tracking"
    challenger: ChallengerName = "better"
    """When the alias challenger moves to the model that is registered: better, if it is better on the same validation
    rows than the version that has the alias; replace, always."""


@dataclass(frozen=True, kw_only=True)
class FitOptions(RowOptions, BudgetOptions, RunOptions):
    """Which rows, and how to train, profile and log."""

    heading: ClassVar[str] = "training"
    seed: Annotated[int, Range(lambda value: 0 <= value < 2**32, "a number >= 0 and below 2**32")] = 0
    """Seed of initialisation, order and dropout, >= 0."""
    epochs: PositiveInt = 3
    """Passes over the training rows, >= 1."""
    epoch_rows: RowCount = 0
    """Rows of an epoch: fewer are repeated, of more a part is drawn anew each time; 0 takes all once."""
    batch_size: PositiveInt = 32
    """Rows a device and micro-step, >= 1."""
    gradient_accumulation: PositiveInt = 1
    """Micro-steps a weight update, >= 1."""
    learning_rate: PositiveFloat = 1.5e-4
    """Peak learning rate, > 0, after warm-up; then linear decay to 0."""
    warmup_ratio: Annotated[float, Range(lambda value: 0 <= value < 1, "a share from 0 to under 1")] = 0.1
    """Share of the updates spent warming up, from 0 to under 1."""
    weight_decay: NonNegativeFloat = 0.01
    """AdamW's weight decay, >= 0."""
    patience: NonNegativeInt = 3
    """Stop after this many epochs without a better validation metric; 0 never stops early."""
    precision: PrecisionName = "auto"
    """Precision of training; auto is bf16 where the hardware computes it."""
