"""What the options of several entry points share."""

from dataclasses import dataclass
from typing import ClassVar, get_args

from kd.base.budgets import BUDGETS
from kd.base.types import ObjectiveName, PrecisionName, ResumeName, TaskName, UserError


def require(allows: bool, option: str, value: object, allowed: str) -> None:
    """Raise the user's mistake that an option is out of range, unless it `allows`."""
    if not allows:
        raise UserError(f"{option}={value!r} is out of range: give {allowed}")


def listed(names: str) -> tuple[str, ...]:
    """Split a comma-separated option."""
    return tuple(name.strip() for name in names.split(",") if name.strip())


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options: each field is one, with its meaning, unit and range said below it."""

    heading: ClassVar[str] = "this command"
    """What `--help` calls the fields of a class."""

    def __post_init__(self) -> None:
        """Refuse what is out of range, by UserError."""


@dataclass(frozen=True, kw_only=True)
class TaskOptions(Options):
    """The options of one task, all with a default; `task` says which task. Without fields, a task's defaults."""

    heading: ClassVar[str] = "the task"
    objectives: ClassVar[tuple[ObjectiveName, ...]] = tuple(name for name in get_args(ObjectiveName) if name != "none")
    """The ways of comparing student and teacher that the task has, beside `none`; the first is the default."""


@dataclass(frozen=True, kw_only=True)
class BudgetOptions(Options):
    """What a served model may cost."""

    heading: ClassVar[str] = "budgets"
    latency_budget_ms: float = 0.0
    """Highest p95 latency of a request in ms; 0 sets no budget."""
    ram_budget_mib: float = 0.0
    """Highest peak RAM of the serving process in MiB; 0 sets no budget."""
    size_budget_mib: float = 0.0
    """Largest model on disk in MiB; 0 sets no budget."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        for option in BUDGETS:
            require(getattr(self, option) >= 0, option, getattr(self, option), "a number >= 0")


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """Where a training is logged, and whether it continues an interrupted one."""

    heading: ClassVar[str] = "where"
    experiment: str = ""
    """MLflow experiment; default `kd`; under `mlflow run` the one that its --experiment-name chose."""
    resume: ResumeName = "auto"
    """auto continues an interrupted training of the same options; never starts anew."""
    checkpoint_every_s: float = 30.0
    """Least seconds between two checkpoints, >= 0; a killed training loses these and an epoch at most."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        require(self.checkpoint_every_s >= 0, "checkpoint_every_s", self.checkpoint_every_s, "a number >= 0")


@dataclass(frozen=True, kw_only=True)
class RowOptions(Options):
    """Which rows, and what is learned from them."""

    heading: ClassVar[str] = "rows"
    dataset: str
    """builtin:apidocs; a hub id with config (nyu-mll/glue:mnli); a CSV, TSV, JSONL or Parquet file; or a folder."""
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
    split_seed: int = 0
    """Seed of the splits that are cut from train, >= 0."""
    max_train: int = 0
    """Use this many training rows, class-balanced and chosen by seed; 0 uses all."""
    labelled: int = 0
    """Use the labels of this many training rows alone, class-balanced and chosen by split_seed; 0 uses all."""
    slice_columns: str = ""
    """Further columns kept beside each prediction, comma-separated, for `compare` to slice by."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        require(bool(self.dataset), "dataset", self.dataset, "builtin:apidocs, a hub id, a file or a folder")
        require(self.split_seed >= 0, "split_seed", self.split_seed, "a number >= 0")
        for option in ("max_train", "labelled"):
            require(getattr(self, option) >= 0, option, getattr(self, option), "a number of rows, or 0 for all")


@dataclass(frozen=True, kw_only=True)
class FitOptions(RowOptions, BudgetOptions, RunOptions):
    """Which rows, and how to train, profile and log."""

    heading: ClassVar[str] = "training"
    seed: int = 0
    """Seed of initialisation, order, dropout and subset, >= 0."""
    epochs: int = 3
    """Passes over the training rows, >= 1."""
    epoch_rows: int = 0
    """Rows of an epoch: fewer are repeated, of more a part is drawn anew each time; 0 takes all once."""
    batch_size: int = 32
    """Rows a device and micro-step, >= 1."""
    gradient_accumulation: int = 1
    """Micro-steps a weight update, >= 1."""
    learning_rate: float = 1.5e-4
    """Peak learning rate, > 0, after warm-up; then linear decay to 0."""
    warmup_ratio: float = 0.1
    """Share of the updates spent warming up, from 0 to under 1."""
    weight_decay: float = 0.01
    """AdamW's weight decay, >= 0."""
    patience: int = 3
    """Stop after this many epochs without a better validation metric; 0 never stops early."""
    precision: PrecisionName = "auto"
    """Precision of training; auto is bf16 where the hardware computes it."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        for option, least in (("seed", 0), ("epochs", 1), ("batch_size", 1), ("gradient_accumulation", 1)):
            value = getattr(self, option)
            require(value >= least, option, value, f"a number >= {least}")
        require(self.seed < 2**32, "seed", self.seed, "a number below 2**32")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number > 0")
        require(0 <= self.warmup_ratio < 1, "warmup_ratio", self.warmup_ratio, "a share from 0 to under 1")
        for option in ("weight_decay", "patience", "epoch_rows"):
            require(getattr(self, option) >= 0, option, getattr(self, option), "a number >= 0")
