"""Options of the search."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from kd.base.console import shown
from kd.base.numbers import wholes
from kd.base.types import PrunerName, SamplerName, SearchedArmName, UserError
from kd.config.base import ChallengerOptions, NonNegativeFloat, PositiveInt, Range, listed, seed_range
from kd.config.objective import positive
from kd.config.training import DistillConfig

LIMITED = ("size_mib", "gflops", "parameters")
"""What a trial can be limited by, or optimised for, beside the task's metrics: known without timing it."""
STANDS_FOR = {"latency": "gflops", "size": "size_mib"}
"""Words a user may say, and what a trial takes for them: a time would be disturbed by the other trials."""


@dataclass(frozen=True, kw_only=True)
class HpoConfig(DistillConfig, ChallengerOptions):
    """Search hyper-parameters with Optuna, retrain the best on fresh seeds, and score the winner once on test."""

    heading: ClassVar[str] = "search"
    n_trials: PositiveInt = 20
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
    workers: PositiveInt = 1
    """Processes that run trials on this machine, >= 1; CPU threads and GPUs are shared out among them."""
    study_name: Annotated[str, Range(lambda name: "/" not in name, "a name without a slash")] = ""
    """Name of the study: a command that gives it again joins it or continues it; default by its contents."""
    storage: str = ""
    """Where the study is kept: a file (Optuna's journal) or a database as postgresql://...; default below KD_HOME."""
    warm_start: str = ""
    """Try first what did best elsewhere: the name of another study in the same storage, or models:/NAME/VERSION."""
    timeout_minutes: NonNegativeFloat = 0.0
    """No trial is begun after so many minutes; those that are done are concluded. 0 sets no limit."""
    top_k: PositiveInt = 3
    """Trials retrained on fresh seeds, of which the winner is picked by its mean on validation, >= 1."""
    final_seeds: Annotated[str, seed_range(least=3)] = "1,2,3"
    """The fresh seeds, comma-separated: three or more, without the seed of the search."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed in self.seed_list:
            raise UserError(
                f"final_seeds={shown(self.final_seeds)} has seed={self.seed} of the search: give fresh ones"
            )
        if self.sampler == "grid":
            self._refuse_beside("sampler", "warm_start", why="a grid has points of its own and takes no others")
            if self.space in ("default", "shape"):
                raise UserError(
                    f"sampler='grid' needs choices or steps: give a YAML file as space, not {shown(self.space)}"
                )
        wanted = self.directed
        if len(set(wanted)) < len(wanted) or len(wanted) > 3:
            known = f"{', '.join(STANDS_FOR)}, parameters, or metrics of the task"
            raise UserError(f"directions={shown(self.directions)}: give one to three different ones of {known}")
        if wanted and all(name in LIMITED for name in wanted):
            raise UserError(f"directions={shown(self.directions)} names no quality, so none is kept: add accuracy, say")
        _ = self.limits

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The fresh seeds as numbers."""
        return wholes(self.final_seeds)

    @property
    def directed(self) -> tuple[str, ...]:
        """What is optimised, by the names trials log; empty for the task's first metric."""
        return tuple(STANDS_FOR.get(name, name).removeprefix("val/") for name in listed(self.directions))

    @property
    def limits(self) -> dict[str, float]:
        """The greatest values a trial should have, by name. Raises UserError for what is not understood."""
        found = {"size_mib": self.size_budget_mib} if self.size_budget_mib else {}
        for text in listed(self.constraints):
            word, _, limit = (part.strip() for part in text.partition("<="))
            name, value = STANDS_FOR.get(word, word), positive(limit)
            if name not in LIMITED or value is None:
                raise UserError(
                    f"constraints={shown(self.constraints)}: {shown(text)} is not understood: give NAME<=NUMBER with a "
                    f"name of {', '.join(LIMITED)}; latency_budget_ms and ram_budget_mib apply to the retrained models"
                )
            found[name] = min(value, found.get(name, value))
        return found
