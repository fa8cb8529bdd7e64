"""What a cascade found: what each step lost, and whether the way round was better than the direct one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from kd import tracking
from kd.analysis.comparison import Pair, Table
from kd.analysis.statistics import MIN_SEEDS, crossed_difference, paired_difference
from kd.base.console import console, say
from kd.base.types import RunRecord
from kd.config import CascadeConfig, CompareConfig
from kd.report.findings import Stored, find
from kd.report.publish import publish, show, where
from kd.report.sections import StepFound, cascade_section
from kd.report.tables import answer, rich_table
from kd.run.data import Rows
from kd.run.execute import Outcome
from kd.run.register import best_on_validation, register_best
from kd.serving.measure import is_profiled, measure_apart
from kd.sweep.cascade_plan import chain_in_words
from kd.sweep.costs import ONCE, beside, profiled, with_costs

SECONDS = "cost/train_s"
Pairs = Sequence[tuple[int, str, str]]
"""Seed, the student's run, and the run of the model it is compared with."""


@dataclass(frozen=True)
class Step:
    """A step on one seed: its words such as 6→4, the run of what is learned from, the control and the student."""

    words: str
    seed: int
    source: str
    control: Outcome
    student: Outcome


@dataclass(frozen=True)
class Route:
    """A step over its seeds."""

    words: str
    steps: Sequence[Step]

    @property
    def students(self) -> list[Outcome]:
        """The distilled students, by seed."""
        return [step.student for step in self.steps]


def conclude(routes: Sequence[Route], config: CascadeConfig, parent: tracking.Run, experiment: str, rows: Rows) -> None:
    """Profile each architecture once, compare, publish the report in the cascade's run, and register the better end.

    Args:
        routes: the links in their order, and the direct route.
        config: the cascade's options.
        parent: the cascade's run.
        experiment: its name.
        rows: what all were scored on.
    """
    ends = [student for route in routes[-2:] for student in route.students]
    best = best_on_validation(ends, rows)
    if not is_profiled(tracking.record(best.run_id).metrics):
        say("Measuring the best on validation, for all of its architecture, in a fresh process")
        measure_apart(best.model, best.run_id, config)
    trained = [outcome for route in routes for step in route.steps for outcome in (step.control, step.student)]
    records = {outcome.run_id: tracking.record(outcome.run_id) for outcome in trained}
    costs = profiled({outcome.run_id: outcome.model for outcome in trained}, records, config)
    compared = CompareConfig(runs=",".join([*records, *beside(records, experiment)]))
    findings, notes = find([*map(tracking.record, compared.runs.split(","))], compared)
    findings = [(with_costs(table, records, costs), details) for table, details in findings]
    ours = next(table for table, _ in findings if table.digest == rows.test_digest)
    chain = chain_in_words(config)
    steps = _steps(routes, records, chain, ours, rows)
    lines = [_against_direct(routes, records, chain), *_budget(routes, records, steps, config), ONCE]
    first = cascade_section(f"Cascade {chain}", steps, f"{ours.split} {ours.metric}", lines)
    show(findings, notes)
    for line in first.lines:
        say(line)
    console.print(*(rich_table(heading, cells) for heading, cells, _ in first.tables), sep="\n")
    publish(findings, notes, compared, parent, [first])
    say(where(parent))
    register_best(ends, config, rows)


def _steps(
    routes: Sequence[Route], records: Mapping[str, RunRecord], chain: str, table: Table, rows: Rows
) -> list[StepFound]:
    """Describe the links, all of them together, and the direct route."""
    score = f"{table.split}/{table.metric}"
    teacher = routes[0].steps[0].source
    known = {**records, **({teacher: tracking.record(teacher)} if teacher else {})}
    scores = {
        run_id: record.metrics[score]
        for run_id, record in known.items()
        if record.tags.get("kd.test_digest") == table.digest and score in record.metrics
    }
    found = []
    for route in routes:
        arm = next(arm for arm in table.arms if route.students[0].run_id in arm.run_ids)
        pairs = [(step.seed, step.student.run_id, step.source) for step in route.steps]
        times = [records[student.run_id].metrics.get(SECONDS) for student in route.students]
        one = _found(route.words, pairs, scores, table, rows)
        seconds = None if None in times else fmean(time for time in times if time is not None)
        found.append(replace(one, gain=arm.difference, verdict=arm.verdict, seconds=seconds))
    *links, direct = found
    through = [(step.seed, step.student.run_id, teacher) for step in routes[-2].steps]
    times = [link.seconds for link in links]
    seconds = None if None in times else sum(time for time in times if time is not None)
    return [*links, replace(_found(chain, through, scores, table, rows), seconds=seconds), direct]


def _found(words: str, pairs: Pairs, scores: Mapping[str, float], table: Table, rows: Rows) -> StepFound:
    """Say how students did, and how much worse than the models they are compared with, where those were scored."""
    student = fmean(scores[run_id] for _, run_id, _ in pairs)
    if any(source not in scores for _, _, source in pairs):
        return StepFound(words, None, student, len(pairs))
    sign = 1 if table.higher_is_better else -1
    single = Stored(table, type(rows.task)).differences([Pair(seed, source, run_id) for seed, run_id, source in pairs])
    if single is None:
        lost = paired_difference(
            {seed: sign * scores[source] for seed, _, source in pairs},
            {seed: sign * scores[run_id] for seed, run_id, _ in pairs},
        )
    else:
        lost = crossed_difference(sign * single.values, single.groups)
    return StepFound(words, fmean(scores[source] for _, _, source in pairs), student, len(pairs), lost)


def _against_direct(routes: Sequence[Route], records: Mapping[str, RunRecord], chain: str) -> str:
    """Say in a sentence, with its verdict, how the last student did against the direct one of the same seed."""
    last, direct = ([records[student.run_id] for student in route.students] for route in routes[-2:])
    key = direct[0].tags["kd.arm"]
    findings, _ = find([*last, *direct], CompareConfig(baseline=key))
    table, _ = findings[0]
    arm = next(arm for arm in table.arms if arm.key != key)
    against = f"the direct route {routes[-1].words} of as many epochs"
    return answer(replace(table, against=against, arms=(replace(arm, label=f"Cascade {chain}"),)))


def _budget(
    routes: Sequence[Route], records: Mapping[str, RunRecord], steps: Sequence[StepFound], config: CascadeConfig
) -> list[str]:
    *links, whole, direct = steps
    total = config.epochs * len(links)
    *chain, last = (fmean(int(records[one.run_id].params["steps"]) for one in route.students) for route in routes)
    budget = (
        f"Equal budget: {total} epochs a seed, as {len(links)} steps of {config.epochs} along the chain and one "
        f"training of {total} directly; that was {sum(chain):,.0f} and {last:,.0f} weight updates."
    )
    if config.patience and total > config.patience + 1:
        budget += f" Early stopping (patience={config.patience}) may end a training sooner."
    lines = [budget, "Not all trainings were timed: some continued after an interruption."]
    if whole.seconds is not None and direct.seconds is not None:
        lines[1] = (
            f"Training took {whole.seconds:.0f} s a seed along the chain and {direct.seconds:.0f} s directly, without "
            "the controls and without running the teachers."
        )
    if whole.seeds < MIN_SEEDS:
        lines.append(f"{whole.seeds} seeds: no claim can be made from any figures; give three seeds or more.")
    return lines
