"""The options of each entry point: one dataclass each, a field's meaning, unit and range said once, beside it.

Nothing heavy is imported here, so that `--help` and a mistyped option answer at once.
"""

from kd.config.base import ChallengerOptions, FitOptions, Options, RowOptions, TaskOptions, listed
from kd.config.finished import CacheConfig, CompareConfig, ExportConfig, GateOptions, MeasureConfig, PromoteConfig
from kd.config.hpo import HpoConfig
from kd.config.options import (
    as_params,
    as_words,
    default_of,
    narrowed,
    options_from,
    options_in,
    value_of,
    with_options,
)
from kd.config.sweep import CascadeConfig, StudyConfig
from kd.config.training import DemoConfig, DistillConfig, MainConfig, StudentConfig, TeacherConfig, TeachingOptions

__all__ = [
    "CacheConfig",
    "CascadeConfig",
    "ChallengerOptions",
    "CompareConfig",
    "DemoConfig",
    "DistillConfig",
    "ExportConfig",
    "FitOptions",
    "GateOptions",
    "HpoConfig",
    "MainConfig",
    "MeasureConfig",
    "Options",
    "PromoteConfig",
    "RowOptions",
    "StudentConfig",
    "StudyConfig",
    "TaskOptions",
    "TeacherConfig",
    "TeachingOptions",
    "as_params",
    "as_words",
    "default_of",
    "listed",
    "narrowed",
    "options_from",
    "options_in",
    "value_of",
    "with_options",
]
