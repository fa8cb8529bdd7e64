"""Distil from teacher to assistant to student, beside the direct route, each step with its control."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

from kd.analysis.statistics import MIN_SEEDS
from kd.base.console import say
from kd.base.hashing import fingerprint
from kd.base.types import UserError
from kd.config import CascadeConfig, DistillConfig, StudentConfig, narrowed
from kd.models.layers import layer_map
from kd.run import distill
from kd.run.data import Rows, load_rows
from kd.run.execute import Outcome, Where, train
from kd.run.locate import locate
from kd.run.objective import shape, terms_between
from kd.run.plan import Plan
from kd.sweep.cascade_result import Route, Step


@dataclass(frozen=True)
class Source:
    """What a student learns from: URI and run of the model, and its arm where every seed has one of its own."""

    uri: str
    run_id: str
    arm: str = ""


@dataclass
class Progress:
    """How many trainings have ended, of how many."""

    of: int
    ended: int = 0

    def end(self, words: str, reused: bool) -> None:
        """Count a training, and say so."""
        self.ended += 1
        say(f"{self.ended}/{self.of} {words}" + (": finished before" if reused else ""))


def require_chain(config: CascadeConfig, rows: Rows) -> None:
    """Check before any training that the chain starts at the teacher, and that each step can be made.

    Raises:
        UserError: the teacher has another number of layers, or a step's layers or objective cannot be.
    """
    finished = config.teacher.startswith(("models:/", "runs:/"))
    whole = shape(rows.task.load(locate(config.teacher, "teacher").folder, "teacher", finished=finished)[0])
    named = f"chain={config.chain!r}"
    if config.layers[0] != whole.layers:
        raise UserError(
            f"{named} starts at {config.layers[0]}, but teacher={config.teacher!r} has {whole.layers} layers: "
            f"give {whole.layers} first"
        )
    for before, after in (*pairwise(config.layers), (config.layers[0], config.layers[-1])):
        try:
            layer_map(after, config.initialisation or "spaced", before, moved=partial(_alike, before))
            terms_between(config, replace(whole, layers=after), replace(whole, layers=before))
        except UserError as error:
            raise UserError(f"{named}, step {before}→{after}: {error}") from error
    count = len(config.seed_list)
    say(f"{trainings(config)} trainings: each step and the direct route, with a control, on {count} seeds")
    if count < MIN_SEEDS:
        say(f"Warning: with fewer than {MIN_SEEDS} seeds no difference can be claimed: give seeds, such as 0,1,2")


def trainings(config: CascadeConfig) -> int:
    """Count a student and its control for each step and the direct route, on every seed."""
    return 2 * len(config.seed_list) * len(config.layers)


def _alike(count: int) -> tuple[float, ...]:
    return (0.0,) * count


def carry_out(config: CascadeConfig, seed: int, teacher: Source, where: Where, progress: Progress) -> list[Step]:
    """Return the steps of a seed in their order, and the direct route, of as many epochs as all steps."""
    rows = load_rows(config, seed)
    steps, source = [], teacher
    for before, after in pairwise(config.layers):
        asked = narrowed(DistillConfig, config, teacher=source.uri, student_layers=str(after), seed=seed)
        step, source = _step(asked, rows, source, f"{before}→{after}", where, progress)
        steps.append(step)
    last, epochs = config.layers[-1], config.epochs * len(steps)
    asked = narrowed(DistillConfig, config, teacher=teacher.uri, student_layers=str(last), seed=seed, epochs=epochs)
    direct, _ = _step(asked, rows, teacher, f"{config.layers[0]}→{last}", where, progress)
    return [*steps, direct]


def _step(
    config: DistillConfig, rows: Rows, source: Source, words: str, where: Where, progress: Progress
) -> tuple[Step, Source]:
    """Train control and student; returns them, and the student as what the next one learns from."""
    control, _ = _trained(narrowed(StudentConfig, config), rows, source, words, where, progress)
    student, arm = _trained(config, rows, source, words, where, progress)
    step = Step(words, config.seed, source.run_id, control, student)
    return step, Source(student.model, student.run_id, arm)


def _trained(
    config: StudentConfig, rows: Rows, source: Source, words: str, where: Where, progress: Progress
) -> tuple[Outcome, str]:
    """Train one student; returns its arm too, which all seeds share although their teachers differ."""
    plan = distill.planned(config, rows)
    plan = replace(plan, method=f"{words} {plan.method}")
    ranked = config.initialisation == "importance"
    arm = _arm(plan, plan.identity, source, ranked)
    if source.arm:
        # the key tells it from the same training by hand, which would be an arm of its own
        plan = replace(plan, identity={**plan.identity, "teacher's arm": source.arm})
        control = {"kd.control_arm": _arm(plan, plan.control, source, ranked)} if plan.control else {}
        where = replace(where, tags={"kd.arm": arm, **control})
    outcome = train(plan, config, where)
    progress.end(plan.title, outcome.reused)
    return outcome, arm


def _arm(plan: Plan, identity: Mapping[str, Any], source: Source, ranked: bool) -> str:
    """Return the hash of an identity; where each seed has a teacher of its own, its arm stands for its weights.

    Layers that are `ranked` differ with the teacher, and are named by how many they are.
    """
    assert plan.teacher is not None
    if not source.arm:
        return fingerprint(identity)
    own = plan.teacher.located.digest
    known = {name: source.arm if value == own else value for name, value in identity.items()}
    return fingerprint({**known, "layers": f"importance {len(known['layers'])}"} if ranked else known)


def tell_reused(routes: list[Route]) -> None:
    """Say how many trainings were finished before."""
    outcomes = [outcome for route in routes for step in route.steps for outcome in (step.control, step.student)]
    if reused := sum(outcome.reused for outcome in outcomes):
        say(f"{reused} of {len(outcomes)} trainings were finished before, and were not done again")
