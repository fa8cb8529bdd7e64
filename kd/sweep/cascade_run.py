"""Carrying out a cascade: on each seed the steps in their order, each student being the next one's teacher."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kd.base.console import say
from kd.base.hashing import fingerprint
from kd.config import CascadeConfig, StudentConfig, narrowed
from kd.run import distill
from kd.run.data import Rows, load_rows
from kd.run.execute import Outcome, Where, train
from kd.run.plan import Plan
from kd.sweep.cascade_plan import Link, links_of, trainings
from kd.sweep.cascade_result import Route, Step


@dataclass(frozen=True)
class StepTeacher:
    """What a student learns from: URI and run of the model, and its arm where every seed has one of its own."""

    uri: str
    run_id: str
    arm: str = ""


@dataclass
class Progress:
    """How many trainings have ended, of how many."""

    of: int
    ended: int = 0
    reused: int = 0

    def end(self, words: str, reused: bool) -> None:
        """Count a training, and say so."""
        self.ended, self.reused = self.ended + 1, self.reused + reused
        say(f"{self.ended}/{self.of} {words}" + (": finished before" if reused else ""))


def carry_out(config: CascadeConfig, teacher: StepTeacher, where: Where) -> list[Route]:
    """Train all steps and the direct route on every seed; returns them in their order, the direct route last."""
    progress = Progress(trainings(config))
    seeds = [_one_seed(config, seed, teacher, where, progress) for seed in config.seed_list]
    if progress.reused:
        say(f"{progress.reused} of {progress.of} trainings were finished before, and were not done again")
    return [Route(steps[0].words, steps) for steps in zip(*seeds, strict=True)]


def _one_seed(config: CascadeConfig, seed: int, teacher: StepTeacher, where: Where, progress: Progress) -> list[Step]:
    rows = load_rows(config, seed)
    *chain, direct = links_of(config)
    steps, before = [], teacher
    for link in chain:
        step, before = _Step(link, before, rows, where, progress).carry_out(config, seed)
        steps.append(step)
    last, _ = _Step(direct, teacher, rows, where, progress).carry_out(config, seed)
    return [*steps, last]


@dataclass(frozen=True)
class _Step:
    """A step on one seed, to be trained."""

    link: Link
    teacher: StepTeacher
    rows: Rows
    where: Where
    progress: Progress

    def carry_out(self, config: CascadeConfig, seed: int) -> tuple[Step, StepTeacher]:
        """Train control and student; returns them, and the student as what the next one learns from."""
        options = self.link.options(config, self.teacher.uri, seed)
        control, _ = self._train(narrowed(StudentConfig, options))
        student, arm = self._train(options)
        step = Step(self.link.words, seed, self.teacher.run_id, control, student)
        return step, StepTeacher(student.model, student.run_id, arm)

    def _train(self, config: StudentConfig) -> tuple[Outcome, str]:
        """Train one student; returns its arm too, which all seeds share although their teachers differ."""
        plan = distill.planned(config, self.rows)
        plan = replace(plan, method=f"{self.link.words} {plan.method}")
        ranked = config.initialisation == "importance"
        arms = {"kd.arm": arm_of(plan, plan.identity, self.teacher, ranked)}
        if plan.control is not None:
            arms["kd.control_arm"] = arm_of(plan, plan.control, self.teacher, ranked)
        outcome = train(_apart(plan, self.teacher), config, replace(self.where, tags=arms))
        self.progress.end(plan.title, outcome.reused)
        return outcome, arms["kd.arm"]


def _apart(plan: Plan, teacher: StepTeacher) -> Plan:
    """Tell a training from the same by hand, which would be an arm of its own, where each seed has its own teacher."""
    return replace(plan, identity={**plan.identity, "teacher's arm": teacher.arm}) if teacher.arm else plan


def arm_of(plan: Plan, identity: Mapping[str, Any], teacher: StepTeacher, ranked: bool) -> str:
    """Return the hash of an identity, in which the teacher's arm replaces its weights where each seed has its own.

    Layers that are `ranked` by importance differ with the teacher, and are replaced by their number.
    """
    assert plan.teacher is not None
    if not teacher.arm:
        return fingerprint(identity)
    shared = {name: teacher.arm if value == plan.teacher.located.digest else value for name, value in identity.items()}
    if ranked:
        shared["layers"] = f"importance {len(shared['layers'])}"
    return fingerprint(shared)
