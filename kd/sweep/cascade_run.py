"""Carrying out a cascade: on each seed the steps in their order, each student being the next one's teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kd.base.console import say
from kd.base.hashing import fingerprint
from kd.config import CascadeConfig, StudentConfig, narrowed
from kd.run import distill
from kd.run.data import Rows, load_rows
from kd.run.execute import Outcome, Where, train
from kd.run.plan import Plan
from kd.sweep.cascade_plan import Link, links_of, trainings


@dataclass(frozen=True)
class Step:
    """A step on one seed: the run of what is learned from, the control, the student, and the student's arm."""

    words: str
    seed: int
    source: str
    control: Outcome
    student: Outcome
    arm: str


Route = Sequence[Step]
"""A step over its seeds."""


def carry_out(config: CascadeConfig, teacher: Outcome, where: Where) -> list[Route]:
    """Train all steps and the direct route on every seed; returns them in their order, the direct route last."""
    trainer = _Trainer(config, where)
    *chain, direct = links_of(config)
    seeds = []
    for seed in config.seed_list:
        rows = load_rows(config, seed)
        steps: list[Step] = []
        for link in chain:
            guide, arm = (steps[-1].student, steps[-1].arm) if steps else (teacher, "")
            steps.append(trainer.step(link, seed, rows, guide, arm))
        seeds.append([*steps, trainer.step(direct, seed, rows, teacher, "")])
    if reused := sum(one.reused for one in trainer.ended):
        say(f"{reused} of {len(trainer.ended)} trainings were finished before, and were not done again")
    return list(zip(*seeds, strict=True))


@dataclass
class _Trainer:
    """Trains one student after the other, and says so of each."""

    config: CascadeConfig
    where: Where
    ended: list[Outcome] = field(default_factory=list)

    def step(self, link: Link, seed: int, rows: Rows, guide: Outcome, arm: str) -> Step:
        """Train a step's control and student; `arm` is that of their teacher where every seed has one of its own."""
        options = link.options(self.config, guide.model, seed)
        control, _ = self._train(link, narrowed(StudentConfig, options), rows, arm)
        student, own = self._train(link, options, rows, arm)
        return Step(link.words, seed, guide.run_id, control, student, own)

    def _train(self, link: Link, config: StudentConfig, rows: Rows, arm: str) -> tuple[Outcome, str]:
        """Train one student; returns its arm too, which all seeds share although their teachers differ."""
        plan = distill.planned(config, rows)
        ranked = config.initialisation == "importance"
        tags = {"kd.arm": arm_of(plan, plan.identity, arm, ranked)}
        if plan.control is not None:
            tags["kd.control_arm"] = arm_of(plan, plan.control, arm, ranked)
        # not the same training by hand, which would be an arm of its own, where each seed has its own teacher
        identity = {**plan.identity, "teacher's arm": arm} if arm else plan.identity
        plan = replace(plan, method=f"{link.words} {plan.method}", identity=identity)
        outcome = train(plan, config, replace(self.where, tags=tags))
        self.ended.append(outcome)
        count = f"{len(self.ended)}/{trainings(self.config)}"
        say(f"{count} {plan.title}" + (": finished before" if outcome.reused else ""))
        return outcome, tags["kd.arm"]


def arm_of(plan: Plan, identity: Mapping[str, Any], teacher: str, ranked: bool) -> str:
    """Return the hash of an identity, in which the teacher's arm replaces its weights where each seed has its own.

    Layers that are `ranked` by importance differ with the teacher, and are replaced by their number.
    """
    assert plan.teacher is not None
    if not teacher:
        return fingerprint(identity)
    shared = {name: teacher if value == plan.teacher.located.digest else value for name, value in identity.items()}
    if ranked:
        shared["layers"] = f"importance {len(shared['layers'])}"
    return fingerprint(shared)
