"""Built-in spaces of hyper-parameters, in the form of the YAML file, about a factor of four around each default."""

from typing import Any

DEFAULT: dict[str, dict[str, Any]] = {
    # BERT's authors tune 2e-5 to 5e-5 for 12 layers (Devlin et al. 2019, appendix A.3); small models take larger ones
    "learning_rate": {"type": "float", "low": 3e-5, "high": 6e-4, "log": True},
    "epochs": {"type": "int", "low": 2, "high": 5},
    "batch_size": {"type": "categorical", "choices": [16, 32, 64]},
    "warmup_ratio": {"type": "float", "low": 0.0, "high": 0.2},
    # a tenth to ten times AdamW's usual 0.01
    "weight_decay": {"type": "float", "low": 1e-3, "high": 0.1, "log": True},
    "objective": {"type": "categorical", "choices": ["soft", "hard"]},
    # 1 learns from the teacher alone; at 0 the student would be its own control
    "alpha": {"type": "float", "low": 0.1, "high": 1.0},
    # in Hinton et al. 2015 (section 3) a narrow student did best at 2.5 to 4, a wide one alike at all above 8
    "temperature": {"type": "float", "low": 1.0, "high": 8.0, "log": True, "when": {"objective": ["soft"]}},
    "initialisation": {"type": "categorical", "choices": ["first", "last", "spaced"]},
}
SHAPE = DEFAULT | {"student_layers": {"type": "categorical", "choices": [1, 2, 3, 4]}}
"""Also the size, for searches with several directions or limits: by quality alone the largest would mostly win."""
SPACES = {"default": DEFAULT, "shape": SHAPE}
