"""The options of each entry point: one dataclass each, a field's meaning, unit and range said once, beside it.

Nothing heavy is imported here, so that `--help` and a mistyped option answer at once.
"""

from dataclasses import dataclass

from kd.types import (
    FormatName,
    InitialisationName,
    ObjectiveName,
    OutputName,
    PrecisionName,
    ResumeName,
    TaskName,
    UserError,
)


def _require(holds: bool, option: str, value: object, allowed: str) -> None:
    if not holds:
        raise UserError(f"{option}={value!r} is out of range: give {allowed}")


def listed(names: str) -> tuple[str, ...]:
    """Split a comma-separated option."""
    return tuple(name.strip() for name in names.split(",") if name.strip())


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
    slice_columns: str = ""
    """Further columns kept beside each prediction, comma-separated, for `compare` to slice by."""

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

    experiments: str = ""
    """MLflow experiments to read, comma-separated; default `kd`, under `mlflow run` its --experiment-name."""
    filter: str = ""
    """MLflow's filter syntax, such as: tags."kd.dataset" = 'builtin:apidocs'."""
    runs: str = ""
    """Run ids, comma-separated: compare these alone, whatever their stage."""
    models: str = ""
    """Versions (models:/NAME/VERSION, models:/NAME@ALIAS), comma-separated: compare the runs behind them."""
    baseline: str = ""
    """What arms are held against: an arm's name, a start of its hash (tag kd.arm) or a run id; default the control."""
    metric: str = ""
    """Metric to compare by: accuracy, test/accuracy, or val/accuracy for validation; default the task's first."""
    group_by: str = ""
    """Parameters or tags whose values make an arm, comma-separated, such as alpha,temperature; default tag kd.arm."""
    slice_by: str = ""
    """Columns of the predictions to slice by, comma-separated; default the task's own and slice_columns."""
    output: OutputName = "table"
    """What is printed: table for people, json, csv or html for scripts."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if (self.runs or self.models) and (self.experiments or self.filter):
            raise UserError(
                "runs and models name what is compared, experiments and filter search for it: give one or the other"
            )


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """What a version must keep to be promoted. A gate that is not given asks for nothing."""

    metric: str = ""
    """Test metric the gates read; default the task's first."""
    min_metric: float | None = None
    """Worst value that passes: a least value, or for metrics that fall a greatest."""
    allowed_drop: float | None = None
    """Most that the test metric may be worse than the champion's, >= 0, in its unit, at 95 % confidence."""
    min_teacher_share: float | None = None
    """Least share of its teacher's test metric that is kept, 0.95 for 95 %."""
    min_agreement: float | None = None
    """Least share of test examples answered as the teacher does, 0 to 1."""
    max_ece: float | None = None
    """Greatest expected calibration error on test, 0 to 1."""
    max_slice_drop: float | None = None
    """Most that the test metric may be worse than the champion's on any slice of 30 examples or more."""
    min_parity: float | None = None
    """For an exported version: least share of test examples answered as before export, 0 to 1."""
    latency_budget_ms: float | None = None
    """Highest p95 latency of a request in ms, measured on this machine."""
    ram_budget_mib: float | None = None
    """Highest peak RAM of the serving process in MiB, measured on this machine."""
    size_budget_mib: float | None = None
    """Largest model on disk in MiB."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for option in ("min_agreement", "max_ece", "min_parity"):
            value = getattr(self, option)
            _require(value is None or 0 <= value <= 1, option, value, "a share from 0 to 1")
        for option in ("allowed_drop", "max_slice_drop", "min_teacher_share"):
            value = getattr(self, option)
            _require(value is None or value >= 0, option, value, "a number >= 0")
        for option in ("latency_budget_ms", "ram_budget_mib", "size_budget_mib"):
            value = getattr(self, option)
            _require(value is None or value > 0, option, value, "a number > 0")


@dataclass(frozen=True, kw_only=True)
class PromoteConfig(GateOptions):
    """Give a registered version the alias champion, if it passes the gates."""

    model: str
    """Name of the registered model."""
    candidate: str = "@challenger"
    """A version number, an alias as @NAME, or best: the version with the best validation metric."""
    gates: str = ""
    """YAML file of gates, by the names of these options; an option given here outranks it."""
    to_model: str = ""
    """Copy the version to this registered model and make it champion there: development, staging, production."""
    rollback: bool = False
    """Put the alias champion back on the version that has the alias previous; no gate is asked."""
    dry_run: bool = False
    """Decide and report, and move nothing."""
    experiment: str = ""
    """MLflow experiment of the promotion's own run; default `kd`."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        for option in ("model", "to_model"):
            name = getattr(self, option)
            good = (bool(name) or option == "to_model") and not set(name) & set('/:@"')
            _require(good, option, name, "the name of a registered model, without / : @ and double quotes")
        alias = self.candidate.startswith("@") and len(self.candidate) > 1
        good = alias or self.candidate == "best" or self.candidate.isdecimal()
        _require(good, "candidate", self.candidate, "a version number, an alias such as @challenger, or best")
        if self.to_model and (self.rollback or self.to_model == self.model):
            raise UserError(
                f"to_model={self.to_model!r} names another registered model to copy to"
                + (" and does not go with rollback: roll that model back by its own name" if self.rollback else "")
            )


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Turn a registered version into another format, and register the result beside it."""

    model: str
    """models:/NAME@ALIAS or models:/NAME/VERSION, as trained."""
    format: FormatName = "onnx"
    """onnx (float32), onnx-int8 (dynamic quantisation), or safetensors: the plain folder, to use without MLflow."""
    output: str = ""
    """Folder, new or empty, to write the exported files to as well; safetensors needs it."""
    allowed_drop: float = 0.01
    """Most that export may worsen the first test metric, >= 0, in its unit; past it the version says so in its tags."""
    experiment: str = ""
    """MLflow experiment of the export's own run; default `kd`."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _require(self.model.startswith("models:/"), "model", self.model, "models:/NAME@ALIAS or models:/NAME/VERSION")
        _require(self.allowed_drop >= 0, "allowed_drop", self.allowed_drop, "a number >= 0")
        if self.format == "safetensors" and not self.output:
            raise UserError("output is missing: format='safetensors' writes a folder and registers nothing; name one")
