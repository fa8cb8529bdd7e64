"""The space of a search: read from a built-in name or a YAML file, checked, drawn from, and unfolded as a grid.

A trial is anything that suggests values as Optuna's `Trial` does, so nothing here needs Optuna.
"""

from kd.space.parameters import OF_TEACHER, Parameter, Space, as_json, check_space, draw, for_control, grid, within
from kd.space.reading import load_space, read_space
from kd.space.values import SEARCHABLE

__all__ = [
    "OF_TEACHER",
    "SEARCHABLE",
    "Parameter",
    "Space",
    "as_json",
    "check_space",
    "draw",
    "for_control",
    "grid",
    "load_space",
    "read_space",
    "within",
]
