"""Options of the entry points that train."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kd.base.types import REST, CacheName, InitialisationName, ObjectiveName, UserError
from kd.config.base import FitOptions, require
from kd.config.objective import parse_objective, spelt_match, spelt_objective


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(FitOptions):
    """Fine-tune pretrained weights: the teacher that students are distilled from."""

    heading: ClassVar[str] = "teacher and student"
    teacher: str = "builtin:minilm-l6"
    """Pretrained weights: builtin:minilm-l6, a hub id, a folder, models:/... or runs:/..."""


@dataclass(frozen=True, kw_only=True)
class StudentConfig(FitOptions):
    """Train a student on the labels alone: the control of every distilled student."""

    heading: ClassVar[str] = "teacher and student"
    teacher: str = ""
    """Finished teacher: models:/NAME@ALIAS, runs:/ID/model, a folder or hub id; default the newest for this data."""
    student: str = ""
    """Another model to start from, by hub id or folder, with its own tokenizer; default: cut from the teacher."""
    student_layers: str = ""
    """Layers to keep: a count (2) or 0-based indices (0,5); default 2 of the teacher, or all of `student`."""
    initialisation: InitialisationName | None = None
    """Which layers the student starts from, where student_layers is a count; default spaced. top-k is first, bottom-k
    last; importance takes those without which the teacher's validation loss moves most."""
    student_config: str = ""
    """JSON file of a transformers configuration: a student of another width, with random weights and the teacher's
    architecture, tokenizer and labels."""
    attribution_examples: int = 0
    """Validation examples on which integrated gradients of student and teacher are compared; 0 leaves it out."""
    cache: CacheName = "auto"
    """Keep the teacher's outputs on disk: auto up to cache_budget_gib, on of any size, off never."""
    cache_budget_gib: float = 20.0
    """Largest cache of one split in GiB, > 0; past it the teacher runs on every batch."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        require(self.cache_budget_gib > 0, "cache_budget_gib", self.cache_budget_gib, "a number of GiB > 0")
        require(self.attribution_examples >= 0, "attribution_examples", self.attribution_examples, "a number >= 0")
        if self.student_config:
            self._require_alone()
            _ = self.student_settings
        if self.initialisation == "importance" and self.student:
            raise UserError(
                f"initialisation='importance' is measured on the teacher's layers, and student={self.student!r} is "
                "another model: leave one of them out"
            )
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

    def _require_alone(self) -> None:
        for option in ("student", "student_layers", "initialisation"):
            if value := getattr(self, option):
                raise UserError(
                    f"{option}={value!r} beside student_config={self.student_config!r}: the file already says what the "
                    "student is, and it starts at random; leave one of them out"
                )

    @property
    def student_settings(self) -> dict[str, Any]:
        """What the file `student_config` says.

        Raises:
            UserError: it cannot be read, or is no JSON object.
        """
        named = f"student_config={self.student_config!r}"
        example = 'such as {"num_hidden_layers": 4, "hidden_size": 312, "num_attention_heads": 12}'
        try:
            settings = json.loads(Path(self.student_config).expanduser().read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{named} cannot be read ({error.strerror}): give a JSON file {example}") from error
        except ValueError as error:
            raise UserError(f"{named} is no JSON ({error}): give a file {example}") from error
        if not isinstance(settings, dict) or not settings:
            raise UserError(f"{named} has no settings: give a JSON file {example}")
        return settings


@dataclass(frozen=True, kw_only=True)
class DistillConfig(StudentConfig):
    """Train a student on the labels and on the teacher's outputs."""

    heading: ClassVar[str] = "distillation"
    objective: str = ""
    """How student and teacher are compared: none, soft, hard, hidden, attention, relation, cosine, patient, jsd, dkd,
    mse, a weighted sum such as soft:0.5,hidden:0.1, or mixed for soft,hidden,attention; a weight left out is 1; the
    task says which of them it has, and its first is the default."""
    alpha: float = 0.5
    """Weight of the objective, 0 to 1; the labels' loss has 1 - alpha."""
    temperature: float = 2.0
    """Temperature T of the soft targets, > 0: for soft, jsd and dkd."""
    beta: float = 0.5
    """For jsd: 0 is forward KL (teacher to student), 1 reverse KL, between them Jensen-Shannon divergence."""
    transfer: str = ""
    """Text without labels to learn from the teacher on: rest (training rows that labelled leaves out), or a data set
    as dataset takes it, of which the text columns of its training rows are read and nothing else."""
    transfer_confidence: float = 0.0
    """Keep transfer rows alone whose most probable option has at least this probability by the teacher, 0 to 1."""
    transfer_balance: bool = False
    """Keep as many transfer rows of each class the teacher predicts as the rarest of them allows, drawn by seed."""
    match: str = "spaced"
    """Layers that hidden, attention and patient compare: spaced (last with last), last (the last of both), skip (spaced
    without the last pair), or pairs of 0-based layers, student:teacher, such as 0:2,1:5."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        require(0 <= self.alpha <= 1, "alpha", self.alpha, "a weight from 0 to 1")
        require(self.temperature > 0, "temperature", self.temperature, "a number > 0")
        require(0 <= self.beta <= 1, "beta", self.beta, "a number from 0 to 1")
        # equal options look equal everywhere
        object.__setattr__(self, "objective", spelt_objective(self.objective or self.task_options.objectives[0]))
        object.__setattr__(self, "match", spelt_match(self.match))
        known = ("none", *self.task_options.objectives)
        if foreign := [name for name in self.weights if name not in known]:
            raise UserError(
                f"objective={self.objective!r}: task={self.task!r} has no {foreign[0]}: "
                f"give one of {', '.join(known)}, or a weighted sum of them"
            )
        sure = self.transfer_confidence
        require(0 <= sure <= 1, "transfer_confidence", sure, "a probability from 0 to 1")
        self._require_transfer()

    def _require_transfer(self) -> None:
        """Refuse options of transfer rows that contradict others."""
        if self.transfer == REST and not self.labelled:
            raise UserError(
                f"transfer={REST!r} is the training rows that labelled leaves out, and labelled=0 leaves none: give "
                "labelled, or another data set as transfer"
            )
        if self.transfer and "none" in self.weights:
            raise UserError(
                f"transfer={self.transfer!r} beside objective='none': without a teacher nothing is learned from text "
                "without labels; leave one of them out"
            )
        for option in ("transfer_confidence", "transfer_balance"):
            if getattr(self, option) and not self.transfer:
                raise UserError(f"{option}={getattr(self, option)!r} chooses among transfer rows: give transfer too")

    @property
    def weights(self) -> dict[ObjectiveName, float]:
        """The terms of the objective and their weights."""
        return parse_objective(self.objective)


@dataclass(frozen=True, kw_only=True)
class TeachingOptions(DistillConfig):
    """What commands share that train the teacher too, where none is given."""

    heading: ClassVar[str] = "teacher and student"
    dataset: str = "builtin:apidocs"
    """builtin:apidocs; a hub id with config (nyu-mll/glue:mnli); a CSV, TSV, JSONL or Parquet file; or a folder."""
    teacher: str = "builtin:minilm-l6"
    """Weights to fine-tune as teacher (with `seed`), or a finished teacher as models:/... or runs:/..."""
    teacher_epochs: int = 0
    """Passes of the teacher that is trained here over its training rows, >= 1; 0 takes epochs."""
    teacher_learning_rate: float = 0.0
    """Peak learning rate of the teacher that is trained here, > 0; 0 takes learning_rate."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        for option, same in (("teacher_epochs", "epochs"), ("teacher_learning_rate", "learning_rate")):
            value = getattr(self, option)
            require(value >= 0, option, value, f"a number > 0, or 0 for the value of {same}")
            if value and self.teacher_is_finished:
                raise UserError(
                    f"{option}={value!r} beside teacher={self.teacher!r}, which is trained already: leave {option} "
                    "out, or give weights to fine-tune as teacher"
                )

    @property
    def teacher_is_finished(self) -> bool:
        """Whether `teacher` names one that is trained already."""
        return self.teacher.startswith(("models:/", "runs:/"))


@dataclass(frozen=True, kw_only=True)
class MainConfig(TeachingOptions):
    """The whole comparison: teacher once, then the student without and with teacher on several seeds."""

    heading: ClassVar[str] = "this command"
    seeds: str = "0,1,2"
    """Seeds of the students, comma-separated; a difference is claimed from three on."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        parts = self.seeds.split(",")
        good = all(part.strip().isdecimal() for part in parts) and len({int(part) for part in parts}) == len(parts)
        require(good, "seeds", self.seeds, "different numbers >= 0, such as 0,1,2")

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds as numbers."""
        return tuple(int(part) for part in self.seeds.split(","))
