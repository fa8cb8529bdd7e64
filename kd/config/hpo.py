"""Options of the search."""

from dataclasses import dataclass
from typing import ClassVar

from kd.base.types import PrunerName, SamplerName, SearchedArmName, UserError
from kd.config.base import listed, require
from kd.config.training import DistillConfig

LIMITED = ("size_mib", "gflops", "parameters")
"""What a trial can be limited by, or optimised for, beside the task's metrics: known without timing it."""
STANDS_FOR = {"latency": "gflops", "size": "size_mib"}
"""Words a user may say, and what a trial takes for them: a time would be disturbed by the other trials."""
SIGN = "<="


@dataclass(frozen=True, kw_only=True)
class HpoConfig(DistillConfig):
    """Search hyper-parameters with Optuna, retrain the best on fresh seeds, and score the winner once on test."""

    heading: ClassVar[str] = "this command"
    n_trials: int = 20
    """Trials an arm, complete or pruned, >= 1; a larger number continues the same study."""
    arm: SearchedArmName = "distill"
    """What is tuned: the distilled student, its control (same space and budget), or both, with their verdict."""
    space: str = "default"
    """What is searched: a built-in space (default, or shape with the number of layers too), or a YAML file."""
    sampler: SamplerName = "tpe"
    """How parameters are chosen; grid takes every combination of a space of choices, and n_trials from it."""
    pruner: PrunerName = "median"
    """Which trials are stopped early, judged after each epoch; with several directions no trial is."""
    directions: str = ""
    """What is optimised, comma-separated: a validation metric, and size, latency (as GFLOPs) or parameters; default
    the task's first metric. Two or three give a Pareto front."""
    constraints: str = ""
    """What a trial should keep, comma-separated, such as size_mib<=40,gflops<=1; size_budget_mib is one too."""
    workers: int = 1
    """Processes that run trials on this machine, >= 1; CPU threads and GPUs are shared out among them."""
    study_name: str = ""
    """Name of the study: a command that gives it again joins it or continues it; default by its contents."""
    storage: str = ""
    """Where the study is kept: a file (Optuna's journal) or a database as postgresql://...; default below KD_HOME."""
    warm_start: str = ""
    """Try first what did best elsewhere: the name of another study in the same storage, or models:/NAME/VERSION."""
    timeout_minutes: float = 0.0
    """No trial is begun after so many minutes; those that are done are concluded. 0 sets no limit."""
    top_k: int = 3
    """Trials retrained on fresh seeds, of which the winner is picked by its mean on validation, >= 1."""
    final_seeds: str = "1,2,3"
    """The fresh seeds, comma-separated: three or more, without the seed of the search."""

    def __post_init__(self) -> None:
        """Refuse what is out of range or contradicts itself."""
        super().__post_init__()
        for option in ("n_trials", "workers", "top_k"):
            require(getattr(self, option) >= 1, option, getattr(self, option), "a number >= 1")
        require(self.timeout_minutes >= 0, "timeout_minutes", self.timeout_minutes, "a number >= 0")
        seeds = [part.strip() for part in self.final_seeds.split(",")]
        numbers = {int(part) for part in seeds if part.isdecimal() and int(part) < 2**32}
        good = len(numbers) == len(seeds) >= 3
        require(good, "final_seeds", self.final_seeds, "three or more different numbers below 2**32, such as 1,2,3")
        if self.seed in self.seed_list:
            raise UserError(
                f"final_seeds={self.final_seeds!r} has seed={self.seed}, on which the trials are chosen: give others"
            )
        if "/" in self.study_name:
            raise UserError(f"study_name={self.study_name!r} has a slash: give a plain name")
        self._check_directions()
        _ = self.limits

    def _check_directions(self) -> None:
        wanted = self.directed
        known = f"{', '.join(STANDS_FOR)}, parameters, or metrics of the task"
        if len(set(wanted)) < len(wanted) or len(wanted) > 3:
            raise UserError(f"directions={self.directions!r}: give one to three different ones of {known}")
        if wanted and all(name in LIMITED for name in wanted):
            raise UserError(
                f"directions={self.directions!r} names no quality, and none would be kept: add accuracy, say"
            )
        if self.sampler == "grid" and self.warm_start:
            raise UserError(
                f"warm_start={self.warm_start!r}: sampler='grid' takes the points of the grid and no others: leave "
                "warm_start out, or give another sampler"
            )
        if self.sampler == "grid" and self.space in ("default", "shape"):
            raise UserError(f"sampler='grid' needs a space of choices or steps: give a YAML file, not {self.space!r}")

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The fresh seeds as numbers."""
        return tuple(int(part) for part in self.final_seeds.split(","))

    @property
    def directed(self) -> tuple[str, ...]:
        """What is optimised, by the names trials log; empty for the task's first metric."""
        return tuple(STANDS_FOR.get(name, name).removeprefix("val/") for name in listed(self.directions))

    @property
    def limits(self) -> dict[str, float]:
        """The greatest values a trial should have, by name.

        Raises:
            UserError: a constraint that is not understood.
        """
        found = {"size_mib": self.size_budget_mib} if self.size_budget_mib else {}
        for text in listed(self.constraints):
            word, _, limit = (part.strip() for part in text.partition(SIGN))
            name = STANDS_FOR.get(word, word)
            try:
                value = float(limit)
            except ValueError:
                value = -1.0
            if name not in LIMITED or not 0 < value < float("inf"):
                raise UserError(
                    f"constraints={self.constraints!r}: {text!r} is not understood: give NAME{SIGN}NUMBER with a name "
                    f"of {', '.join(LIMITED)}; latency_budget_ms and ram_budget_mib apply to the retrained models"
                )
            found[name] = min(value, found.get(name, value))
        return found
