"""The options of each entry point: one dataclass each, a field's meaning, unit and range said once, beside it.

Nothing heavy is imported here, so that `--help` and a mistyped option answer at once.
"""

import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from jsonargparse import ArgumentParser, set_parsing_settings

from kd.types import InitialisationName, ObjectiveName, PrecisionName, ResumeName, TaskName, UserError


def _require(holds: bool, option: str, value: object, allowed: str) -> None:
    if not holds:
        raise UserError(f"{option}={value!r} is out of range: give {allowed}")


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """Which rows."""

    dataset: str
    """builtin:apidocs; a hub id with config (nyu-mll/glue:mnli); a CSV, TSV, JSONL or Parquet file; or a folder."""
    task: TaskName = "classification"
    """What is learned."""
    text_column: str = "text"
    """Column of the text."""
    text_pair_column: str = ""
    """Column of the second text, for tasks on pairs."""
    label_column: str = "label"
    """Column of the label."""
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

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _require(bool(self.dataset), "dataset", self.dataset, "builtin:apidocs, a hub id, a file or a folder")
        _require(self.split_seed >= 0, "split_seed", self.split_seed, "a number >= 0")
        _require(self.max_train >= 0, "max_train", self.max_train, "a number of rows, or 0 for all")


@dataclass(frozen=True, kw_only=True)
class FitOptions(RowOptions):
    """Which rows, and how to train, profile and log."""

    seed: int = 0
    """Seed of initialisation, order, dropout and subset, >= 0."""
    epochs: int = 3
    """Passes over the training rows, >= 1."""
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
    max_length: int = 128
    """Longest input in tokens, >= 4; longer ones are cut."""
    precision: PrecisionName = "auto"
    """Precision of training; auto is bf16 where the hardware computes it."""
    experiment: str = ""
    """MLflow experiment; default `kd`; under `mlflow run` the one that its --experiment-name chose."""
    resume: ResumeName = "auto"
    """auto continues an interrupted training of the same options; never starts anew."""
    latency_budget_ms: float = 0.0
    """Highest p95 latency of a request in ms; 0 sets no budget."""
    ram_budget_mib: float = 0.0
    """Highest peak RAM of the serving process in MiB; 0 sets no budget."""
    size_budget_mib: float = 0.0
    """Largest model on disk in MiB; 0 sets no budget."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        for option, least in (("seed", 0), ("epochs", 1), ("batch_size", 1), ("gradient_accumulation", 1)):
            value = getattr(self, option)
            _require(value >= least, option, value, f"a number >= {least}")
        _require(self.seed < 2**32, "seed", self.seed, "a number below 2**32")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number > 0")
        _require(0 <= self.warmup_ratio < 1, "warmup_ratio", self.warmup_ratio, "a share from 0 to under 1")
        _require(self.max_length >= 4, "max_length", self.max_length, "a number of tokens >= 4")
        for option in ("weight_decay", "patience", "latency_budget_ms", "ram_budget_mib", "size_budget_mib"):
            _require(getattr(self, option) >= 0, option, getattr(self, option), "a number >= 0")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(FitOptions):
    """Fine-tune pretrained weights: the teacher that students are distilled from."""

    teacher: str = "builtin:minilm-l6"
    """Pretrained weights: builtin:minilm-l6, a hub id, a folder, models:/... or runs:/..."""


@dataclass(frozen=True, kw_only=True)
class StudentConfig(FitOptions):
    """Train a student on the labels alone: the control of every distilled student."""

    teacher: str = ""
    """Finished teacher: models:/NAME@ALIAS, runs:/ID/model, a folder or hub id; default the newest for this data."""
    student: str = ""
    """Another model to start from, by hub id or folder, with its own tokenizer; default: cut from the teacher."""
    student_layers: str = ""
    """Layers to keep: a count (2) or 0-based indices (0,5); default 2 of the teacher, or all of `student`."""
    initialisation: InitialisationName | None = None
    """Which layers the student starts from, where student_layers is a count; default spaced."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        if self.initialisation and self.student and not self.student_layers:
            raise UserError(
                f"initialisation={self.initialisation!r} chooses among layers, but all of student={self.student!r} "
                "are kept: give student_layers as a count, or leave initialisation out"
            )
        if self.initialisation and "," in self.student_layers:
            raise UserError(
                f"initialisation={self.initialisation!r} beside explicit student_layers={self.student_layers!r}: "
                "the indices already say which layers; give a count, or leave initialisation out"
            )


@dataclass(frozen=True, kw_only=True)
class DistillConfig(StudentConfig):
    """Train a student on the labels and on what the teacher says."""

    objective: ObjectiveName = "soft"
    """How student and teacher are compared."""
    alpha: float = 0.5
    """Weight of the teacher's term, 0 to 1; the labels' loss has 1 - alpha."""
    temperature: float = 2.0
    """Temperature T of the soft targets, > 0."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        _require(0 <= self.alpha <= 1, "alpha", self.alpha, "a weight from 0 to 1")
        _require(self.temperature > 0, "temperature", self.temperature, "a number > 0")


@dataclass(frozen=True, kw_only=True)
class MainConfig(DistillConfig):
    """The whole comparison: teacher once, then the student without and with teacher on several seeds."""

    dataset: str = "builtin:apidocs"
    """builtin:apidocs; a hub id with config (nyu-mll/glue:mnli); a CSV, TSV, JSONL or Parquet file; or a folder."""
    teacher: str = "builtin:minilm-l6"
    """Weights to fine-tune as teacher (with `seed`), or a finished teacher as models:/... or runs:/..."""
    seeds: str = "0,1,2"
    """Seeds of the students, comma-separated; a difference is claimed from three on."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        parts = self.seeds.split(",")
        good = all(part.strip().isdecimal() for part in parts) and len({int(part) for part in parts}) == len(parts)
        _require(good, "seeds", self.seeds, "different numbers >= 0, such as 0,1,2")

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds as numbers."""
        return tuple(int(part) for part in self.seeds.split(","))


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """Profile a logged model in a fresh process, loaded the way it is served."""

    model: str
    """models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ID/model."""
    latency_budget_ms: float = 0.0
    """Highest p95 latency of a request in ms; 0 sets no budget."""
    ram_budget_mib: float = 0.0
    """Highest peak RAM of the serving process in MiB; 0 sets no budget."""
    size_budget_mib: float = 0.0
    """Largest model on disk in MiB; 0 sets no budget."""
    experiment: str = ""
    """MLflow experiment of the measurement's own run; default `kd`."""
    into_run: str = ""
    """Log into this run instead of a new one; the training stages use it for their own model."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _require(self.model.startswith(("models:/", "runs:/")), "model", self.model, "models:/... or runs:/...")
        for option in ("latency_budget_ms", "ram_budget_mib", "size_budget_mib"):
            _require(getattr(self, option) >= 0, option, getattr(self, option), "a number >= 0")


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare finished runs: one table for each task and test set, each arm against its control."""

    experiment: str = ""
    """MLflow experiment to read; default `kd`; under `mlflow run` the one that its --experiment-name chose."""
    filter: str = ""
    """MLflow's filter syntax, such as: tags."kd.dataset" = 'builtin:apidocs'."""
    metric: str = ""
    """Test metric to compare by; default the task's first."""


@dataclass(frozen=True, kw_only=True)
class PromoteConfig:
    """Give a registered version the alias champion, if it passes."""

    model: str
    """Name of the registered model."""
    candidate: str = "@challenger"
    """A version number, or an alias as @NAME."""
    metric: str = ""
    """Test metric the gate reads; default the task's first."""
    min_metric: float | None = None
    """Worst value that passes: a least value, or for metrics that fall a greatest; default none asked."""
    experiment: str = ""
    """MLflow experiment of the promotion's own run; default `kd`."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _require(bool(self.model), "model", self.model, "the name of a registered model")
        good = self.candidate.removeprefix("@") != "" and (self.candidate.startswith("@") or self.candidate.isdecimal())
        _require(good, "candidate", self.candidate, "a version number, or an alias such as @challenger")


Config = TypeVar("Config")


class _Parser(ArgumentParser):
    """Raises a wrong option as the user's mistake, in plain words."""

    types: Mapping[str, Any]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = " ".join(message.split())
        if missing := re.search(r"arguments are required: (\w+)", line):
            raise UserError(f"{missing[1]} is missing: give --{missing[1]}, or see --help")
        if wrong := re.search(r'^Parser key "(\w+)".*(?:Got|Given) value: (.*)$', line):
            option, value = wrong.groups()
            raise UserError(f"{option}={value!r} is not understood: give {_plain(self.types[option])}")
        raise UserError(f"{line}; see --help")


def parse(config: type[Config], arguments: Sequence[str] | None = None) -> Config:
    """Read the command line into `config`.

    Arguments that are empty or `None` count as not given: that is how `mlflow run` passes an optional parameter.

    Raises:
        UserError: an unknown option, a value of the wrong type or out of range, a missing option.
        SystemExit: after `--help`.
    """
    given = _without_empty(list(sys.argv[1:] if arguments is None else arguments))
    known = [field.name for field in fields(config)]  # type: ignore[arg-type]
    _refuse_unknown(given, known)
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    name = config.__name__.removesuffix("Config").lower()
    parser = _Parser(prog=f"python -m entrypoints.{name}", description=config.__doc__, allow_abbrev=False)
    parser.types = get_type_hints(config)
    parser.add_class_arguments(config, as_group=False)
    values = parser.parse_args(given)
    return config(**{option: values[option] for option in known})


def _plain(allowed: Any) -> str:
    """Say in words what a type allows."""
    words = {int: "a whole number", float: "a number", str: "text"}
    options = [option for option in get_args(allowed) if option is not type(None)]
    if options and not isinstance(options[0], str):
        return " or ".join(_plain(option) for option in options)
    return "one of " + ", ".join(options) if options else words[allowed]


def _without_empty(arguments: list[str]) -> list[str]:
    kept: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word.startswith("--") and "=" not in word:
            value = next(rest, None)
            if value not in ("", "None"):
                kept += [word] if value is None else [word, value]
        elif not (word.startswith("--") and word.endswith(("=", "=None"))):
            kept.append(word)
    return kept


def _refuse_unknown(arguments: list[str], known: list[str]) -> None:
    for word in arguments:
        option = word[2:].split("=")[0]
        if word.startswith("--") and option not in (*known, "help"):
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean --{near[0]}?" if near else f"known: {', '.join(known)}"
            raise UserError(f"unknown option --{option}: {hint}")
