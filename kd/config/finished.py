"""Options of the entry points that train nothing: they work on finished runs, registered versions and caches."""

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from kd.base.budgets import Device
from kd.base.console import did_you_mean, shown
from kd.base.types import CacheActionName, FormatName, OutputName, UserError
from kd.config.base import (
    BudgetOptions,
    DeviceOptions,
    Group,
    NonNegativeFloat,
    Options,
    PositiveFloat,
    Range,
    Share,
    listed,
)

A_NAME = "the name of a registered model, without / : @ and double quotes"
CANDIDATE = re.compile(r"@.+|best|[1-9][0-9]*", re.DOTALL)
A_CANDIDATE = "a version number, an alias such as @challenger, or best"


def _are_stored(uris: str) -> bool:
    return bool(listed(uris)) and all(uri.startswith(("models:/", "runs:/")) for uri in listed(uris))


@dataclass(frozen=True, kw_only=True)
class MeasureConfig(BudgetOptions):
    """Profile a logged model in a fresh process, loaded the way it is served, or several in turn."""

    model: Annotated[str, Range(_are_stored, "models:/... or runs:/..., or several of them, comma-separated")]
    """models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ID/model; with in_place several, comma-separated."""
    in_place: bool = False
    """Log into the runs that made the models, and all that share their figures, in place of these; no new run is made,
    and models of one architecture are measured once."""
    experiment: Annotated[str, Group("tracking")] = ""
    """MLflow experiment of the measurement's own run; default MLFLOW_EXPERIMENT_NAME, else `kd`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(listed(self.model)) > 1 and not self.in_place:
            raise UserError(f"model={self.model!r} names several, and a run has room for one: give in_place=true")


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Options):
    """Compare finished runs: one table for each task and test set, each arm against its control."""

    experiments: str = ""
    """MLflow experiments to read, comma-separated; default that of `mlflow run`, MLFLOW_EXPERIMENT_NAME or `kd`."""
    filter: str = ""
    """MLflow's filter syntax, such as: tags."kd.dataset" = 'builtin:apidocs'."""
    runs: str = ""
    """Run ids, comma-separated: compare these alone, of any stage."""
    models: str = ""
    """Versions (models:/NAME/VERSION, models:/NAME@ALIAS), comma-separated: compare the runs behind them."""
    baseline: str = ""
    """What arms are compared with: an arm's name, a start of its hash (tag kd.arm) or a run id; default the control."""
    metric: str = ""
    """Metric to compare by: accuracy, test/accuracy, or val/accuracy for validation; default the task's first."""
    group_by: str = ""
    """Parameters or tags whose values make an arm, comma-separated, such as alpha,temperature; default tag kd.arm."""
    slice_by: str = ""
    """Columns of the predictions to slice by, comma-separated; default the task's own and slice_columns."""
    output: OutputName = "table"
    """What is printed: table for people, json, csv or html for scripts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for named in ("runs", "models"):
            if getattr(self, named):
                self._refuse_beside(named, "experiments", "filter", why="only what it names is compared")


@dataclass(frozen=True, kw_only=True)
class GateOptions(DeviceOptions):
    """What a version must keep to be promoted. A gate that is not given requires nothing."""

    heading: ClassVar[str] = "gates"
    metric: str = ""
    """Test metric the gates read; default the task's first."""
    min_metric: float | None = None
    """Worst value that passes: a least value, or for metrics that fall a greatest."""
    allowed_drop: NonNegativeFloat | None = None
    """Most that the test metric may be worse than the champion's, >= 0, in its unit, at 95 % confidence."""
    min_teacher_share: NonNegativeFloat | None = None
    """Least share of its teacher's test metric that is kept, 0.95 for 95 %."""
    min_agreement: Share | None = None
    """Least share of test examples answered as the teacher does, 0 to 1."""
    max_ece: Share | None = None
    """Greatest expected calibration error on test, 0 to 1."""
    max_slice_drop: NonNegativeFloat | None = None
    """Most that the test metric may be worse than the champion's on any slice of 30 examples or more."""
    max_group_ratio: Annotated[float, Range(lambda value: value >= 1, "a number >= 1")] | None = None
    """Most that the test metric may differ between two groups of 30 examples or more, the larger value by the smaller;
    1 allows no difference."""
    ratio_by: str = ""
    """Column of the predictions whose groups max_group_ratio compares; default the task's first, such as patient."""
    min_parity: Share | None = None
    """For an exported version: least share of test examples answered as before export, 0 to 1."""
    latency_budget_ms: PositiveFloat | None = None
    """Highest p95 latency of a request in ms, measured on this machine."""
    ram_budget_mib: PositiveFloat | None = None
    """Highest peak RAM of the serving process in MiB, measured on this machine."""
    size_budget_mib: PositiveFloat | None = None
    """Largest model on disk in MiB."""
    fits: str = ""
    """Devices of the file `devices`, comma-separated, that the version must fit, measured on this machine."""

    @property
    def required_devices(self) -> dict[str, Device]:
        """The devices that the version must fit. Raises UserError for one that the file does not have."""
        known = self.named_devices
        for name in listed(self.fits):
            if not known:
                raise UserError(
                    f"fits={shown(self.fits)} needs devices: give the YAML file of their RAM and storage too"
                )
            if name not in known:
                hint = did_you_mean(name, known, f"it has {', '.join(known)}")
                raise UserError(f"fits={shown(self.fits)}: devices={shown(self.devices)} has no {shown(name)}; {hint}")
        return {name: known[name] for name in listed(self.fits)}


@dataclass(frozen=True, kw_only=True)
class PromoteConfig(GateOptions):
    """Give a registered version the alias champion, if it passes the gates."""

    model: Annotated[str, Range(re.compile(r'[^/:@"]+').fullmatch, A_NAME)]
    """Name of the registered model."""
    candidate: Annotated[str, Range(CANDIDATE.fullmatch, A_CANDIDATE)] = "@challenger"
    """A version number, an alias as @NAME, or best: the version with the best validation metric."""
    gates: str = ""
    """YAML file of gates, by the names of these options; an option given here outranks it."""
    to_model: Annotated[str, Range(re.compile(r'[^/:@"]*').fullmatch, A_NAME)] = ""
    """Copy the version to this registered model and make it champion there: development, staging, production."""
    rollback: bool = False
    """Put the alias champion back on the version that has the alias previous; no gate is checked."""
    dry_run: bool = False
    """Decide and report, and move nothing."""
    experiment: Annotated[str, Group("tracking")] = ""
    """MLflow experiment of the promotion's own run; default MLFLOW_EXPERIMENT_NAME, else `kd`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.gates:  # which may name the devices
            _ = self.required_devices
        if self.rollback:
            self._refuse_beside("rollback", "to_model", why="roll that model back by its own name")
        if self.to_model == self.model:
            raise UserError(f"to_model={shown(self.to_model)} is the same model: give another one to copy to")


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Options):
    """Turn a registered version into another format, and register the result beside it."""

    model: Annotated[str, Range(lambda uri: uri.startswith("models:/"), "models:/NAME@ALIAS or models:/NAME/VERSION")]
    """models:/NAME@ALIAS or models:/NAME/VERSION, as trained."""
    format: FormatName = "onnx"
    """onnx (float32), onnx-int8 (dynamic quantisation), or safetensors: the plain folder, to use without MLflow."""
    output: str = ""
    """Folder, new or empty, to write the exported files to as well; safetensors needs it."""
    allowed_drop: NonNegativeFloat = 0.01
    """Most that export may worsen the first test metric, >= 0, in its unit; past it the version says so in its tags."""
    experiment: Annotated[str, Group("tracking")] = ""
    """MLflow experiment of the export's own run; default MLFLOW_EXPERIMENT_NAME, else `kd`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format == "safetensors" and not self.output:
            raise UserError("output is missing: format='safetensors' writes a folder and registers nothing; name one")


@dataclass(frozen=True, kw_only=True)
class CacheConfig(Options):
    """Show, check or remove what is kept of teachers' outputs and predictions and encoded features, below KD_HOME."""

    action: CacheActionName = "list"
    """list shows a table, verify reads every byte first, prune removes what the options below name."""
    older_than_days: NonNegativeFloat | None = None
    """For prune: remove what was last used longer ago than this, >= 0."""
    keep_gib: NonNegativeFloat | None = None
    """For prune: remove what was used least recently until this many GiB are left, >= 0."""
    all: bool = False
    """For prune: remove everything that is not being written."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, and pruning without saying what."""
        super().__post_init__()
        if self.action != "prune":
            why, instead = "it removes nothing", "give action=prune"
            self._refuse_beside("action", "older_than_days", "keep_gib", "all", why=why, instead=instead)
        elif self.all == (self.older_than_days is not None or self.keep_gib is not None):
            raise UserError("action='prune' needs to know what: give older_than_days, keep_gib or both, or all alone")
