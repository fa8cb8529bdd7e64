"""Built-in spaces of hyper-parameters, in the form of the YAML file, about a factor of four around each default."""

from typing import Any

DEFAULT: dict[str, dict[str, Any]] = {
    "learning_rate": {"type": "float", "low": 3e-4, "high": 1e-2, "log": True},
    "epochs": {"type": "int", "low": 2, "high": 10},
    "batch_size": {"type": "categorical", "choices": [16, 32, 64]},
    "weight_decay": {"type": "float", "low": 1e-3, "high": 0.1, "log": True},
    # 1 learns from the teacher alone; at 0 the student would be its own control
    "alpha": {"type": "float", "low": 0.1, "high": 1.0},
}
SHAPE = DEFAULT | {"student_layers": {"type": "categorical", "choices": [1, 2, 3, 4]}}
"""Also the size, for searches with several directions or limits: by quality alone the largest would mostly win."""
SPACES = {"default": DEFAULT, "shape": SHAPE}
