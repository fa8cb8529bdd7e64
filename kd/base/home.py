"""Where checkpoints and caches live."""

import os
from pathlib import Path


def home() -> Path:
    """Return the folder for checkpoints and caches: `KD_HOME`, or `~/.cache/kd`. It may not exist yet."""
    return Path(os.environ.get("KD_HOME") or Path.home() / ".cache" / "kd")
