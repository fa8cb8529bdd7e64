"""The space of a search: read from a built-in name or a YAML file, checked, drawn from, and unfolded as a grid.

A trial is anything that suggests values as Optuna's `Trial` does, so nothing here needs Optuna.
"""
