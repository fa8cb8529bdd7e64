"""Options of the entry point that looks after the caches."""

from dataclasses import dataclass

from kd.base.types import CacheActionName, UserError
from kd.config.base import Options, require


@dataclass(frozen=True, kw_only=True)
class CacheConfig(Options):
    """Show, check or remove what is kept of teachers' outputs and predictions and encoded features, below KD_HOME."""

    action: CacheActionName = "list"
    """list shows a table, verify reads every byte first, prune removes what the options below name."""
    older_than_days: float | None = None
    """For prune: remove what was last used longer ago than this, >= 0."""
    keep_gib: float | None = None
    """For prune: remove what was used least recently until this many GiB are left, >= 0."""
    all: bool = False
    """For prune: remove everything that is not being written."""

    def __post_init__(self) -> None:
        """Refuse what is out of range, and pruning without saying what."""
        for option in ("older_than_days", "keep_gib"):
            value = getattr(self, option)
            require(value is None or value >= 0, option, value, "a number >= 0")
        given = [name for name in ("older_than_days", "keep_gib") if getattr(self, name) is not None]
        given += ["all"] if self.all else []
        if self.action != "prune" and given:
            raise UserError(f"{given[0]} says what to remove, and action={self.action!r} removes nothing: give prune")
        if self.action == "prune" and (not given or (self.all and len(given) > 1)):
            raise UserError("action='prune' needs to know what: give older_than_days, keep_gib or both, or all alone")
