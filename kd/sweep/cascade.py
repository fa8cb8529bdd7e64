"""A cascade: its steps in words and as options of `distill`, checked before any training, carried out and reported.

Each student is the next one's teacher. The report says what each step lost, and whether the way round was better than
the direct one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import isnan, nan
from statistics import fmean
from typing import Any

from kd import tracking
from kd.analysis.statistics import MIN_SEEDS, bounded, crossed_difference, of_difference, paired_difference
from kd.analysis.table import Pair, Table
from kd.base.console import say
from kd.base.hashing import fingerprint
from kd.base.types import Shape, UserError
from kd.config import CascadeConfig, CompareConfig, DistillConfig, StudentConfig, narrowed
from kd.models.layers import layer_map
from kd.report.findings import Stored, find
from kd.report.publish import doubts_of
from kd.report.sections import StepFound, cascade_section
from kd.report.tables import verdicts
from kd.run import distill
from kd.run.data import Rows
from kd.run.distill import require_comparable, shape, terms_between
from kd.run.execute import Outcome, Where, train
from kd.run.locate import Loaded, load
from kd.run.plan import Plan
from kd.run.register import register_best
from kd.run.student import called, require_cut
from kd.sweep.compared import ONCE, Records, compared


@dataclass(frozen=True)
class Member:
    """A model of the chain.

    Attributes:
        words: its number of layers, or the last part of its name.
        source: name of the pretrained weights it starts from; empty where it is cut from the teacher.
        layers: how many are cut from the model before it; None where all of the source are taken.
    """

    words: str
    source: str
    layers: int | None


@dataclass(frozen=True)
class Link:
    """A step from a model to the student that learns from it, which `start` says in options of `distill`.

    It takes the cascade's `epochs` so many `times`.
    """

    before: Member
    after: Member
    start: Mapping[str, Any]
    times: int = 1

    @property
    def words(self) -> str:
        """Such as 6→4."""
        return f"{self.before.words}→{self.after.words}"

    def options(self, config: CascadeConfig, teacher: str, seed: int) -> DistillConfig:
        """Return the options of the step's student."""
        epochs = config.epochs * self.times
        return narrowed(DistillConfig, config, **self.start, teacher=teacher, seed=seed, epochs=epochs)


def members_of(config: CascadeConfig) -> list[Member]:
    """Return the models of the chain, the teacher first."""
    found: list[Member] = []
    for place, one in enumerate(config.members):
        if isinstance(one, str):
            found.append(Member(called(one), one if place else "", None))
        else:
            found.append(Member(str(one), found[-1].source if place else "", one))
    return found


def links_of(config: CascadeConfig) -> list[Link]:
    """Return the steps in their order and, last, the direct route, of as many epochs as all of them.

    In the chain a student with a number of layers is cut from the model before it. On the direct route it is cut from
    the weights that the chain came to it by, so that both routes end at the same architecture.
    """
    members = members_of(config)
    chain = [Link(before, after, _start(config, after, "")) for before, after in pairwise(members)]
    last = members[-1]
    return [*chain, Link(members[0], last, _start(config, last, last.source), len(chain))]


def _start(config: CascadeConfig, member: Member, cut_from: str) -> dict[str, Any]:
    if member.layers is None:
        return {"student": member.source, "student_layers": "", "initialisation": None}
    return {"student": cut_from, "student_layers": str(member.layers), "initialisation": config.initialisation}


def chain_in_words(config: CascadeConfig) -> str:
    """Return the chain as a person reads it, such as 6→4→2."""
    return "→".join(member.words for member in members_of(config))


def trainings(config: CascadeConfig) -> int:
    """Count a student and its control for each step and the direct route, on every seed."""
    return 2 * len(config.seed_list) * len(config.members)


def require_chain(config: CascadeConfig, rows: Rows) -> None:
    """Check before any training that the chain starts at the teacher, and that each step can be made.

    Raises:
        UserError: the teacher has another number of layers, a model is not there, or a step's layers or objective
            cannot be.
    """
    named = f"chain={config.chain!r}"
    loaded = _loaded(config, rows)
    wanted, depth = members_of(config)[0].layers, shape(loaded[""].model).layers
    if wanted not in (None, depth):
        raise UserError(
            f"{named} starts at {wanted}, but teacher={config.teacher!r} has {depth} layers: give {depth} first"
        )
    for link in links_of(config):
        try:
            _require_step(link, link.options(config, config.teacher, config.seed), rows, loaded)
        except UserError as error:
            raise UserError(f"{named}, step {link.words}: {error}") from error
    count = len(config.seed_list)
    say(f"{trainings(config)} trainings: each step and the direct route, with a control, on {count} seeds")
    if count < MIN_SEEDS:
        say(f"Warning: with fewer than {MIN_SEEDS} seeds no difference can be claimed: give seeds, such as 0,1,2")


def _loaded(config: CascadeConfig, rows: Rows) -> dict[str, Loaded]:
    """Load the teacher, by the name "", and the models that students start from, by theirs."""
    found = {}
    for source in ("", *dict.fromkeys(member.source for member in members_of(config) if member.source)):
        name, option = (source, "student") if source else (config.teacher, "teacher")
        try:
            found[source] = load(rows.task, name, option, finished=not source and config.teacher_is_finished)
        except UserError as error:
            raise UserError(f"chain={config.chain!r}: {error}") from error
    return found


def _require_step(link: Link, config: DistillConfig, rows: Rows, loaded: Mapping[str, Loaded]) -> None:
    """Check that a student can be cut, and compared with its teacher."""
    ours, theirs = (_shape(member, loaded) for member in (link.after, link.before))
    if link.after.layers is not None:
        source, depth = loaded[config.student or link.before.source], theirs.layers
        if config.student or shape(source.model).layers == depth:
            require_cut(config, rows, source)
        else:  # an assistant that is not there yet
            layer_map(link.after.layers, config.initialisation or "spaced", depth, moved=lambda: (0.0,) * depth)
    student, teacher = (loaded[member.source] for member in (link.after, link.before))
    require_comparable(config, rows, terms_between(config, ours, theirs), student, teacher)


def _shape(member: Member, loaded: Mapping[str, Loaded]) -> Shape:
    whole = shape(loaded[member.source].model)
    return whole if member.layers is None else replace(whole, layers=member.layers)


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


def carry_out(config: CascadeConfig, rows: Rows, teacher: Outcome, where: Where) -> list[Route]:
    """Train all steps and the direct route on every seed; returns them in their order, the direct route last."""
    trainer = _Steps(config, where)
    *chain, direct = links_of(config)
    seeds = []
    for seed in config.seed_list:
        steps: list[Step] = []
        for link in chain:
            guide, arm = (steps[-1].student, steps[-1].arm) if steps else (teacher, "")
            steps.append(trainer.step(link, seed, rows, guide, arm))
        seeds.append([*steps, trainer.step(direct, seed, rows, teacher, "")])
    if reused := sum(one.reused for one in trainer.ended):
        say(f"{reused} of {len(trainer.ended)} trainings were finished before, and were not done again")
    return list(zip(*seeds, strict=True))


@dataclass
class _Steps:
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


def conclude(routes: Sequence[Route], config: CascadeConfig, parent: tracking.Run, experiment: str, rows: Rows) -> None:
    """Profile each architecture once, compare, publish the report in the cascade's run, and register the better end.

    `routes` are the links in their order, and the direct route; `rows` are what all were scored on.
    """
    ends = [step.student for route in routes[-2:] for step in route]
    trained = [outcome.run_id for route in routes for step in route for outcome in (step.control, step.student)]
    found = compared(trained, config, experiment)
    ours = next(table for table, _ in found.findings if table.digest == rows.test_digest)
    chain = chain_in_words(config)
    steps = _steps(routes, found.records, chain, ours, rows)
    lines = [_against_direct(routes, found.records, chain), *_budget(routes, found.records, steps, config), ONCE]
    found.report(cascade_section(f"Cascade {chain}", steps, f"{ours.split} {ours.metric}", lines), parent)
    register_best(ends, config, rows, doubts_of(found.findings))


def _steps(routes: Sequence[Route], records: Records, chain: str, table: Table, rows: Rows) -> list[StepFound]:
    """Describe the links, all of them together, and the direct route."""
    teacher, score = routes[0][0].source, f"{table.split}/{table.metric}"
    scores = {run_id: record.metrics[score] for run_id, record in records.items()}
    if teacher:
        record = tracking.record(teacher)
        if record.tags.get("kd.test_digest") == table.digest and score in record.metrics:
            scores[teacher] = record.metrics[score]
    found, seconds = [], []
    for route in routes:
        arm = next(arm for arm in table.arms if route[0].student.run_id in arm.run_ids)
        seconds.append(fmean(records[step.student.run_id].metrics.get("cost/train_s", nan) for step in route))
        pairs = [Pair(step.seed, step.source, step.student.run_id) for step in route]
        one = _found(route[0].words, pairs, scores, table, rows)
        found.append(replace(one, gain=arm.difference, verdict=arm.verdict, seconds=_measured(seconds[-1])))
    through = [Pair(step.seed, teacher, step.student.run_id) for step in routes[-2]]
    whole = replace(_found(chain, through, scores, table, rows), seconds=_measured(sum(seconds[:-1])))
    return [*found[:-1], whole, found[-1]]


def _measured(seconds: float) -> float | None:
    return None if isnan(seconds) else seconds


def _found(words: str, pairs: Sequence[Pair], scores: Mapping[str, float], table: Table, rows: Rows) -> StepFound:
    """Say how students did, and how much worse than the models they are compared with, where those were scored.

    A pair is the model's run and, as what it is compared with, the student's, so that differences are losses.
    """
    student = fmean(scores[pair.against] for pair in pairs)
    if any(pair.run_id not in scores for pair in pairs):
        return StepFound(words, None, student, len(pairs))
    sign = 1 if table.higher_is_better else -1
    single = Stored(table, type(rows.task)).differences(pairs)
    if single is None:
        lost = paired_difference(
            {pair.seed: sign * scores[pair.run_id] for pair in pairs},
            {pair.seed: sign * scores[pair.against] for pair in pairs},
        )
    else:
        lost = crossed_difference(sign * single.values, single.groups)
    lost = bounded(lost, of_difference(table.bounds))
    return StepFound(words, fmean(scores[pair.run_id] for pair in pairs), student, len(pairs), lost)


def _against_direct(routes: Sequence[Route], records: Records, chain: str) -> str:
    """Say in a sentence, with its verdict, how the last student did against the direct one of the same seed."""
    last, direct = ([records[step.student.run_id] for step in route] for route in routes[-2:])
    key = direct[0].tags["kd.arm"]
    (table, _), *_ = find([*last, *direct], CompareConfig(baseline=key))[0]
    arm = next(arm for arm in table.arms if arm.key != key)
    against = f"the direct route {routes[-1][0].words} of as many epochs"
    return verdicts(replace(table, against=against, arms=(replace(arm, label=f"Cascade {chain}"),)))


def _budget(
    routes: Sequence[Route], records: Records, steps: Sequence[StepFound], config: CascadeConfig
) -> Iterator[str]:
    *links, whole, direct = steps
    total = config.epochs * len(links)
    *chain, last = (fmean(int(records[step.student.run_id].params["steps"]) for step in route) for route in routes)
    budget = (
        f"Equal budget: {total} epochs a seed, as {len(links)} steps of {config.epochs} along the chain and one "
        f"training of {total} directly; that was {sum(chain):,.0f} and {last:,.0f} weight updates."
    )
    if config.patience and total > config.patience + 1:
        budget += f" Early stopping (patience={config.patience}) may end a training sooner."
    yield budget
    if whole.seconds is not None and direct.seconds is not None:
        yield (
            f"Training took {whole.seconds:.0f} s a seed along the chain and {direct.seconds:.0f} s directly, without "
            "the controls and without running the teachers."
        )
    else:
        yield "Not all trainings were timed: some continued after an interruption."
    if whole.seeds < MIN_SEEDS:
        yield f"{whole.seeds} seeds: no claim can be made from any figures; give three seeds or more."
