"""Options of the entry points that train."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from kd.base.console import shown
from kd.base.numbers import wholes
from kd.base.types import REST, CacheName, InitialisationName, ObjectiveName, UserError
from kd.config.base import (
    ChallengerOptions,
    DatasetName,
    FitOptions,
    Group,
    NonNegativeFloat,
    NonNegativeInt,
    Options,
    PositiveFloat,
    Share,
    seed_range,
)
from kd.config.layers import parse_layers
from kd.config.objective import parse_objective, spelt_match, spelt_objective


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(FitOptions):
    """Fine-tune pretrained weights: the teacher that students are distilled from."""

    heading: ClassVar[str] = "student"
    teacher: str = "builtin:minilm-l6"
    """Pretrained weights: builtin:minilm-l6, a hub id, a folder, models:/... or runs:/..."""


@dataclass(frozen=True, kw_only=True)
class StudentConfig(FitOptions):
    """Train a student on the labels alone: the control of every distilled student."""

    heading: ClassVar[str] = "student"
    teacher: str = ""
    """Finished teacher: models:/NAME@ALIAS, runs:/ID/model, a folder or hub id; default the newest for this data."""
    student: str = ""
    """Another model to start from, by hub id or folder, with its own tokenizer; teacher, the whole teacher (to train it
    further); default: cut from the teacher."""
    student_layers: str = ""
    """Layers to keep: a count (2) or 0-based indices (0,5); default 2 of the teacher, or all of `student`."""
    initialisation: InitialisationName | None = None
    """Which layers the student starts from, where student_layers is a count; default spaced. top-k is first, bottom-k
    last; importance takes those without which the teacher's validation loss moves most."""
    student_config: str = ""
    """JSON file of a transformers configuration: a student of another width, with random weights and the teacher's
    architecture, tokenizer and labels."""
    attribution_examples: Annotated[NonNegativeInt, Group("measuring")] = 0
    """Validation examples on which integrated gradients of student and teacher are compared; 0 leaves it out."""
    cache: Annotated[CacheName, Group("training")] = "auto"
    """Keep the teacher's outputs on disk: auto up to cache_budget_gib, on of any size, off never."""
    cache_budget_gib: Annotated[PositiveFloat, Group("training")] = 20.0
    """Largest cache of one split in GiB, > 0; past it the teacher runs on every batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.student_config:
            why = "the file says what the student is, and it starts at random"
            self._refuse_beside("student_config", "student", "student_layers", "initialisation", why=why)
            _ = self.student_settings
        if self.student and self.initialisation == "importance":
            self._refuse_beside("student", "initialisation", why="importance is measured on the teacher's layers")
        if self.student and not self.student_layers:
            self._refuse_beside("student", "initialisation", why="all layers are kept unless student_layers is a count")
        if self.student_layers:
            parse_layers(self.student_layers)
        if "," in self.student_layers:
            self._refuse_beside("student_layers", "initialisation", why="the indices already say which layers")

    @property
    def student_settings(self) -> dict[str, Any]:
        """What the file `student_config` says. Raises UserError where it cannot be read or is no JSON object."""
        from kd.base.written import parse_json, read_text  # with it comes yaml

        named = f"student_config={shown(self.student_config)}"
        instead = 'give a file such as {"num_hidden_layers": 4, "hidden_size": 312, "num_attention_heads": 12}'
        settings = parse_json(read_text(self.student_config, named, instead), named, instead)
        if not isinstance(settings, dict) or not settings:
            raise UserError(f"{named} has no settings: {instead}")
        return settings


@dataclass(frozen=True, kw_only=True)
class DistillConfig(StudentConfig):
    """Train a student on the labels and on the teacher's outputs."""

    heading: ClassVar[str] = "objective"
    objective: str = ""
    """How student and teacher are compared:"""
    alpha: Share = 0.5
    """Weight of the objective, 0 to 1; the labels' loss has 1 - alpha."""
    temperature: PositiveFloat = 2.0
    """Temperature T of the soft targets, > 0: for soft, jsd and dkd."""
    beta: Share = 0.5
    """For jsd: 0 is forward KL (teacher to student), 1 reverse KL, between them Jensen-Shannon divergence."""
    transfer: Annotated[str, Group("data")] = ""
    """Text without labels to learn from the teacher on: rest (training rows that labelled leaves out), or a data set
    as dataset takes it, of which the text columns of its training rows are read and nothing else."""
    transfer_confidence: Annotated[Share, Group("data")] = 0.0
    """Keep transfer rows alone whose most probable option has at least this probability by the teacher, 0 to 1."""
    transfer_balance: Annotated[bool, Group("data")] = False
    """Keep as many transfer rows of each class the teacher predicts as the rarest of them allows, drawn by seed."""
    match: str = "spaced"
    """Layers that hidden, attention and patient compare: spaced (last with last), last (the last of both), skip (spaced
    without the last pair), or pairs of 0-based layers, student:teacher, such as 0:2,1:5."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # equal options look equal everywhere
        known = ("none", *self.task_options.objectives)
        object.__setattr__(self, "objective", spelt_objective(self.objective or known[1], known))
        object.__setattr__(self, "match", spelt_match(self.match))
        if foreign := [name for name in self.weights if name not in known]:
            allowed = f"give one of {', '.join(known)}, or a weighted sum of them"
            raise UserError(
                f"objective={shown(self.objective)}: task={shown(self.task)} has no {foreign[0]}: {allowed}"
            )
        self._require_transfer()

    def _require_transfer(self) -> None:
        """Refuse options of transfer rows that contradict others."""
        if self.transfer == REST and not self.labelled:
            raise UserError(
                f"transfer={REST!r} is the training rows that labelled leaves out, and labelled=0 leaves none: give "
                "labelled, or another data set as transfer"
            )
        if "none" in self.weights:
            self._refuse_beside("objective", "transfer", why="without a teacher, text without labels teaches nothing")
        for option in ("transfer_confidence", "transfer_balance"):
            if getattr(self, option) and not self.transfer:
                raise UserError(
                    f"{option}={shown(getattr(self, option))} chooses among transfer rows: give transfer too"
                )

    @property
    def weights(self) -> dict[ObjectiveName, float]:
        """The terms of the objective and their weights."""
        return parse_objective(self.objective)


@dataclass(frozen=True, kw_only=True)
class TeachingOptions(DistillConfig):
    """What commands share that train the teacher too, where none is given."""

    heading: ClassVar[str] = "training"
    dataset: DatasetName = "builtin:apidocs"
    teacher: str = "builtin:minilm-l6"
    """Weights to fine-tune, with `seed` or the first of `seeds`; or a finished teacher: models:/... or runs:/..."""
    teacher_epochs: NonNegativeInt = 0
    """Passes of the teacher that is trained here over its training rows, >= 1; 0 takes epochs."""
    teacher_learning_rate: NonNegativeFloat = 0.0
    """Peak learning rate of the teacher that is trained here, > 0; 0 takes learning_rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher_is_finished:
            why, instead = "it is trained already", "give weights to fine-tune as teacher"
            self._refuse_beside("teacher", "teacher_epochs", "teacher_learning_rate", why=why, instead=instead)

    @property
    def teacher_is_finished(self) -> bool:
        """Whether `teacher` names one that is trained already."""
        return self.teacher.startswith(("models:/", "runs:/"))


@dataclass(frozen=True, kw_only=True)
class DemoConfig(Options):
    """The first run: embedded data with few labels, compared, promoted and asked, in some minutes."""

    experiment: Annotated[str, Group("tracking")] = ""
    """MLflow experiment; default MLFLOW_EXPERIMENT_NAME, else `kd`."""


@dataclass(frozen=True, kw_only=True)
class SeedsOptions(TeachingOptions, ChallengerOptions):
    """What commands share that train their students on several seeds."""

    heading: ClassVar[str] = "training"
    seeds: Annotated[str, seed_range(least=1)] = "0,1,2"
    """Seeds of the students, comma-separated; a difference is claimed from three on."""
    seed: ClassVar[Any] = property(lambda self: self.seed_list[0])  # type: ignore[misc]  # no option beside `seeds`

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds as numbers."""
        return wholes(self.seeds)


@dataclass(frozen=True, kw_only=True)
class MainConfig(SeedsOptions):
    """The whole comparison: teacher once, then the student without and with teacher on several seeds."""

    heading: ClassVar[str] = "training"
    distill_epochs: NonNegativeInt = 0
    """Passes of the distilled student over the training rows, >= 1; 0 takes epochs. Where they differ from the
    student's, a control with as many is trained too, and the verdict is against that."""
    distill_learning_rate: NonNegativeFloat = 0.0
    """Peak learning rate of the distilled student and of its control, > 0; 0 takes learning_rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "none" in self.weights:
            self._refuse_beside("objective", "distill_epochs", "distill_learning_rate", why="nothing is distilled")

    @property
    def distilling(self) -> dict[str, Any]:
        """Epochs and learning rate of the distilled student, by option, where they differ from the student's."""
        own = {
            "epochs": self.distill_epochs or self.epochs,
            "learning_rate": self.distill_learning_rate or self.learning_rate,
        }
        return {name: value for name, value in own.items() if value != getattr(self, name)}
