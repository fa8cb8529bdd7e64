"""A study carried out: its teachers, every cell that is not finished yet, and which factor mattered."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kd import tracking
from kd.analysis.effects import main_effects
from kd.analysis.statistics import MIN_SEEDS
from kd.base.console import hushed, say
from kd.base.hashing import fingerprint
from kd.base.types import UserError
from kd.config import StudentConfig, StudyConfig
from kd.report.sections import study_section
from kd.run import distill, student, teacher
from kd.run.data import rows_of
from kd.run.execute import Where
from kd.run.locate import locate
from kd.run.plan import Plan
from kd.sweep.cells import Result, carry_out_all
from kd.sweep.compared import ONCE, Records, compared
from kd.sweep.design import Design, control_of, in_words
from kd.sweep.planning import Cell, TimeLeft, Training, for_teacher, one_a_teacher, taught_by, teacher_key


def with_teachers(config: StudyConfig, todo: Sequence[Cell], where: Where) -> list[Cell]:
    """Return the cells with their finished teachers; each that is not given finished is trained once, with `seed`."""
    finished = {}
    for key, cell in one_a_teacher(todo).items():
        wanted = for_teacher(config, cell)
        rows = rows_of(wanted)
        finished[key] = teacher.finished(wanted, rows, where)
        student.further_labels(wanted, rows, locate(finished[key], "teacher"))
    return [replace(cell, config=replace(cell.config, teacher=finished[teacher_key(cell)])) for cell in todo]


def trainings(config: StudyConfig, todo: Sequence[Cell]) -> list[Training]:
    """Plan one training of each condition, so that what cannot be is reported before long work."""
    sizes: dict[tuple[StudentConfig, bool], tuple[str, int, int]] = {}
    found = []
    for cell in todo:
        condition = replace(cell.config, seed=0), cell.self_trained
        if condition not in sizes:
            plan = _plan(config, cell)
            layers = getattr(plan.model.config, "num_hidden_layers", 1)
            sizes[condition] = fingerprint(plan.identity), layers, len(plan.rows.split("train"))
        arm, layers, count = sizes[condition]
        count = cell.config.epoch_rows or count
        key = f"{arm} {cell.config.seed}"
        found.append(Training(float(cell.config.epochs * count * (layers + 1)), key))
    return found


def _plan(config: StudyConfig, cell: Cell) -> Plan:
    try:
        with hushed():
            wanted = taught_by(cell, cell.config.teacher) if cell.self_trained else cell
            return distill.planned(wanted.config, rows_of(cell.config))
    except UserError as error:
        raise UserError(f"{cell.words}: {error}; or exclude such cells in the design") from error


def seconds_a_layer(model: str) -> float | None:
    """Return the seconds that a teacher's training took for one row and one layer, where it was measured."""
    stored = tracking.stored_model(model, "teacher")
    speed = tracking.record(stored.run_id).metrics.get("cost/examples_per_s") if stored.run_id else None
    depth = json.loads((stored.folder / "config.json").read_text("utf-8")).get("num_hidden_layers", 1)
    return 1 / (speed * (depth + 1)) if speed else None


@dataclass
class _Study:
    """The cells, where and by how many workers they are carried out, and what has become of them so far."""

    todo: Sequence[Cell]
    where: Where
    left: TimeLeft
    results: dict[int, Result] = field(default_factory=dict)

    def carry_out(self, cells: Mapping[int, Cell], keys: Mapping[int, str]) -> None:
        """Carry out cells, of those with the same key one: two processes cannot be at the same training."""
        same: dict[str, list[int]] = {}
        for number in cells:
            same.setdefault(keys[number], []).append(number)
        shared = {first: others for first, *others in same.values()}
        for number, result in carry_out_all({one: cells[one] for one in shared}, self.where, self.left.workers):
            timed = not (result.reused or result.failure)
            took = "finished before" if result.reused else f"{result.seconds:.0f} s"
            self.take(number, result, took, result.seconds if timed else None)
            for other in shared[number]:
                self.take(other, replace(result, seconds=0.0), f"the same training as {self.todo[number].words}")

    def take(self, number: int, result: Result, ended: str = "", seconds: float | None = None) -> None:
        """Note what became of a cell, and say so; `seconds` where it took time that says something of the others."""
        self.results[number] = result
        self.left.end(number, seconds)
        ended = f"failed: {result.failure}" if result.failure else ended
        rest = f"{self.left.words} left" if self.left.work else "now costs and report"
        say(f"{len(self.results)}/{len(self.todo)} {self.todo[number].words}: {ended}; {rest}")


def carry_out(
    todo: Sequence[Cell], trainings: Sequence[Training], where: Where, workers: int, guess: float | None
) -> list[Result]:
    """Carry out all cells in so many processes, reporting after each how long the rest will take."""
    left = TimeLeft({number: one.work for number, one in enumerate(trainings)}, workers, guess)
    study = _Study(todo, where, left)
    say(f"{len(todo)} trainings take {left.words}, less what is finished already")
    taught = {number: cell for number, cell in enumerate(todo) if not cell.self_trained}
    study.carry_out(taught, {number: trainings[number].key for number in taught})
    controls = {tuple(cell.levels.items()): study.results[number] for number, cell in taught.items()}
    self_taught = {}
    for number, cell in enumerate(todo):
        if cell.self_trained:
            control = controls[tuple(control_of(cell.levels).items())]
            if control.failure:
                study.take(number, Result(failure="its control failed"))
            else:
                self_taught[number] = taught_by(cell, control.model)
    study.carry_out(self_taught, {number: str(cell.config) for number, cell in self_taught.items()})
    if reused := sum(result.reused for result in study.results.values()):
        say(f"{reused} of {len(todo)} trainings were finished before, and were not done again")
    return [study.results[number] for number in range(len(todo))]


def conclude(
    design: Design, done: Sequence[tuple[Cell, Result]], parent: tracking.Run, config: StudyConfig, experiment: str
) -> None:
    """Profile each architecture once, compare, and publish the report in the study's run.

    Raises:
        UserError: every cell failed.
    """
    finished = [(cell, result) for cell, result in done if not result.failure]
    failed = [(cell.words, result.failure) for cell, result in done if result.failure]
    parent.log_metrics({"study/cells": len(done), "study/failed": len(failed)})
    if not finished:
        raise UserError(f"study {design.title!r}: every cell failed, the first with: {failed[0][1]}")
    found = compared([result.run_id for _, result in finished], config, experiment)
    first, _ = found.findings[0]
    scores = [
        (
            {axis: in_words(axis, level) for axis, level in cell.levels.items()},
            cell.config.seed,
            found.records[result.run_id].metrics[f"{first.split}/{first.metric}"],
        )
        for cell, result in finished
    ]
    factors = [axis for axis in dict.fromkeys(["objective", *design.axes]) if axis != "seed"]
    metric, lines = f"{first.split} {first.metric}", list(_lines(done, found.records))
    effects = study_section(f"Study: {design.title}", main_effects(scores, factors), metric, failed, lines)
    found.report(effects, parent)


def _lines(done: Sequence[tuple[Cell, Result]], records: Records) -> Iterator[str]:
    reused = sum(result.reused for _, result in done)
    yield f"{len(done)} trainings" + (f", {reused} of them finished before" if reused else "") + "."
    if timed := [record.metrics["cost/train_s"] for record in records.values() if "cost/train_s" in record.metrics]:
        yield f"Training took {sum(timed) / 60:.1f} min in all, of {len(timed)} that were timed."
    yield ONCE
    seeds = {cell.config.seed for cell, _ in done}
    if len(seeds) < MIN_SEEDS:
        yield f"Seeds: {len(seeds)}, so no claim can be made; give the design an axis seed, such as [0, 1, 2]."
    if any(result.failure for _, result in done):
        yield "Some cells failed: effects are means over the others."
