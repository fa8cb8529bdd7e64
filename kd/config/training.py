"""Options of the entry points that train."""

from dataclasses import dataclass

from kd.config.base import FitOptions, require
from kd.types import CacheName, InitialisationName, ObjectiveName, UserError


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
    cache: CacheName = "auto"
    """Keep the teacher's outputs on disk: auto up to cache_budget_gib, on whatever their size, off never."""
    cache_budget_gib: float = 20.0
    """Largest cache of one split in GiB, > 0; past it the teacher runs on every batch."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        require(self.cache_budget_gib > 0, "cache_budget_gib", self.cache_budget_gib, "a number of GiB > 0")
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
        require(0 <= self.alpha <= 1, "alpha", self.alpha, "a weight from 0 to 1")
        require(self.temperature > 0, "temperature", self.temperature, "a number > 0")


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
        require(good, "seeds", self.seeds, "different numbers >= 0, such as 0,1,2")

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds as numbers."""
        return tuple(int(part) for part in self.seeds.split(","))
