"""What a cascade found: what each step lost, and whether the way round was better than the direct one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isnan, nan
from statistics import fmean

from kd import tracking
from kd.analysis.comparison import Pair, Table
from kd.analysis.statistics import MIN_SEEDS, crossed_difference, paired_difference
from kd.base.console import say
from kd.base.types import RunRecord
from kd.config import CascadeConfig, CompareConfig
from kd.report.cascade import StepFound, section
from kd.report.findings import Stored, find
from kd.report.words import answer
from kd.run.data import Rows
from kd.run.register import best_on_validation, register_best
from kd.serving.measure import is_profiled, measure_apart
from kd.sweep.cascade_plan import chain_in_words
from kd.sweep.cascade_run import Route
from kd.sweep.compared import ONCE, compared

Records = Mapping[str, RunRecord]


def conclude(routes: Sequence[Route], config: CascadeConfig, parent: tracking.Run, experiment: str, rows: Rows) -> None:
    """Profile each architecture once, compare, publish the report in the cascade's run, and register the better end.

    Args:
        routes: the links in their order, and the direct route.
        config: the cascade's options.
        parent: the cascade's run.
        experiment: its name.
        rows: what all were scored on.
    """
    ends = [step.student for route in routes[-2:] for step in route]
    best = best_on_validation(ends, rows)
    if not is_profiled(tracking.record(best.run_id).metrics):
        say("Measuring the best on validation, for all of its architecture, in a fresh process")
        measure_apart(best.model, best.run_id, config)
    trained = [outcome for route in routes for step in route for outcome in (step.control, step.student)]
    found = compared({outcome.run_id: outcome.model for outcome in trained}, config, experiment)
    ours = next(table for table, _ in found.findings if table.digest == rows.test_digest)
    chain = chain_in_words(config)
    steps = _steps(routes, found.records, chain, ours, rows)
    lines = [_against_direct(routes, found.records, chain), *_budget(routes, found.records, steps, config), ONCE]
    found.report(section(f"Cascade {chain}", steps, f"{ours.split} {ours.metric}", lines), parent)
    register_best(ends, config, rows)


def _steps(routes: Sequence[Route], records: Records, chain: str, table: Table, rows: Rows) -> list[StepFound]:
    """Describe the links, all of them together, and the direct route."""
    teacher = routes[0][0].source
    known = {**records, **({teacher: tracking.record(teacher)} if teacher else {})}
    score = f"{table.split}/{table.metric}"
    scores = {
        run_id: record.metrics[score]
        for run_id, record in known.items()
        if record.tags.get("kd.test_digest") == table.digest and score in record.metrics
    }
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
    return StepFound(words, fmean(scores[pair.run_id] for pair in pairs), student, len(pairs), lost)


def _against_direct(routes: Sequence[Route], records: Records, chain: str) -> str:
    """Say in a sentence, with its verdict, how the last student did against the direct one of the same seed."""
    last, direct = ([records[step.student.run_id] for step in route] for route in routes[-2:])
    key = direct[0].tags["kd.arm"]
    (table, _), *_ = find([*last, *direct], CompareConfig(baseline=key))[0]
    arm = next(arm for arm in table.arms if arm.key != key)
    against = f"the direct route {routes[-1][0].words} of as many epochs"
    return answer(replace(table, against=against, arms=(replace(arm, label=f"Cascade {chain}"),)))


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
