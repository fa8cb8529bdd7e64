"""Options of a study."""

from dataclasses import dataclass
from typing import ClassVar

from kd.config.base import require
from kd.config.training import TeachingOptions


@dataclass(frozen=True, kw_only=True)
class StudyConfig(TeachingOptions):
    """Train the same student under every condition of a design, with its controls, and say what mattered."""

    heading: ClassVar[str] = "this command"
    design: str
    """YAML file of the design: studies/quick.yaml and others beside it, or your own."""
    workers: int = 1
    """Processes that train cells on this machine, >= 1; CPU threads and GPUs are shared out among them."""
    dry_run: bool = False
    """Print the cells, and train nothing."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        super().__post_init__()
        require(self.workers >= 1, "workers", self.workers, "a number >= 1")

    def _require_transfer(self) -> None:
        """Each cell checks it: what contradicts may be an axis."""
