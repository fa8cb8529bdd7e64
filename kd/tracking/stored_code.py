"""Whether a stored model brings no code but what this project has released; asked before MLflow runs any of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kd.base.hashing import file_digest
from kd.base.released import RELEASED
from kd.base.types import UserError

FLAVOR = "python_function"
LOADER = "mlflow.pyfunc.loaders.code_model"
KNOWN = {
    *("artifacts", "cloudpickle_version", "code", "env", "loader_module", "model_code_path", "python_version"),
    "streamable",
}
"""What MLflow writes about a model that `log_model` logged; other keys name pickles, or data of other loaders."""

CODE = (".py", ".pyc", ".so", ".pyd")
"""Ends of the names of files that Python would import."""
OF_CODE = ("auto_map", "custom_pipelines")
KERNELS = ("attn_implementation", "attn_implementation_internal", "experts_implementation")
"""Settings of a configuration that make a library fetch code: `owner/kernel` for the last three."""


def require_released(root: Path, named: str) -> None:
    """Check a model's folder, the one that is loaded next.

    Raises UserError, with what is `named`, for code that is not in RELEASED, and for each other way to bring some:
    another loader or flavor, a pickle, code paths, artifacts that lie elsewhere, a configuration that names code.
    """
    if why := _foreign(root):
        raise UserError(
            f"{named} is not run: {why}; only models that this project logged are loaded: train or export it again"
        )


def _foreign(root: Path) -> str:
    """Return why a model may run foreign code; empty where it cannot."""
    try:
        about = yaml.safe_load((root / "MLmodel").read_text(encoding="utf-8"))
        flavors = about["flavors"]
        found: dict[str, Any] = flavors[FLAVOR]
        unknown = (flavors.keys() - {FLAVOR}) | (found.keys() - KNOWN)
        code = root / Path(str(found["model_code_path"])).name
        folders = [Path(str(one["path"])) for one in found["artifacts"].values()]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError, RecursionError):
        return "its MLmodel is not as this project writes it"
    if unknown:
        return f"its MLmodel has {sorted(map(str, unknown))[0]!r}, which may bring code"
    if found["loader_module"] != LOADER or found.get("code") is not None:
        return f"its MLmodel loads it by {str(found['loader_module'])[:100]!r}, with code of its own"
    if not code.is_file() or code.is_symlink() or file_digest(code) not in RELEASED:
        return f"its code, {code.name!r}, is none that this project has released"
    for folder in folders:
        if not (root / folder).resolve().is_relative_to(root.resolve()):
            return f"its files lie elsewhere, in {str(folder)[:100]!r}"
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in CODE and (path.is_symlink() or file_digest(path) not in RELEASED):
                return f"its code, {path.name!r}, is none that this project has released"
        for path in sorted((root / folder).glob("*config.json")):
            if why := _named_code(path):
                return why
    return ""


def _named_code(path: Path) -> str:
    """Return how a configuration names code that a library would fetch and run; empty where it names none."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return f"its {path.name} is not readable"
    pending = [("", settings)]
    while pending:
        name, value = pending.pop()
        if name in OF_CODE and value is not None:
            return f"its {path.name} names code ({name})"
        if name.lstrip("_") in KERNELS and "/" in json.dumps(value):
            return f"its {path.name} names a foreign kernel ({name}={str(value)[:100]!r})"
        if isinstance(value, list):
            pending += [("", one) for one in value]
        elif isinstance(value, Mapping) and name not in ("id2label", "label2id"):  # labels may have any name
            pending += value.items()
    return ""
