"""Train the same student under every condition of a design, with its controls, and say what mattered."""

from dataclasses import replace
from pathlib import Path

from kd import tracking
from kd.config import StudyConfig, as_params
from kd.run.execute import Where
from kd.sweep.cells import Bench
from kd.sweep.design import cells, load_design
from kd.sweep.study import Clock, announce, carry_out, cell, guide, rows_of, teacher_speed, with_base, works_of
from kd.sweep.study_result import conclude


def run(config: StudyConfig) -> None:
    """Train the teacher once for each number of labels, then every cell that is not finished yet, and report.

    Raises:
        UserError: bad input, or a cell that cannot be: before anything but the teacher is trained.
        Stopped: a signal came; the same command goes on with what is missing.
    """
    design = load_design(config.design)
    config = with_base(config, design)
    deciding = {name: getattr(config, name) for name in ("objective", "alpha", "transfer")}
    design = replace(design, base={**design.base, **deciding})
    todo = [cell(config, levels) for levels in cells(design)]
    announce(design, todo)
    if config.dry_run:
        return
    with tracking.session(config.experiment) as experiment:
        rows = {count: rows_of(config, count) for count in dict.fromkeys(cell.config.labelled for cell in todo)}
        tags = {"kd.stage": "study", "kd.study": design.name, "kd.task": config.task, "kd.dataset": config.dataset}
        with tracking.run(f"study {design.title}", tags) as parent:
            parent.log_params(as_params(config))
            parent.log_text(Path(config.design).read_text(encoding="utf-8"), "design.yaml")
            where = Where(experiment, parent, reuse=True)
            guides = {count: guide(config, count, each, where) for count, each in rows.items()}
            todo = [replace(cell, config=replace(cell.config, teacher=guides[cell.config.labelled])) for cell in todo]
            works, depth = works_of(todo, rows)
            speed = teacher_speed(next(iter(guides.values())))
            clock = Clock(works, config.workers, 1 / (speed * (depth + 1)) if speed else None)
            bench = Bench(experiment, parent.run_id, {"kd.study": design.name})
            results = carry_out(todo, bench, config.workers, clock)
            conclude(design, list(zip(todo, results, strict=True)), parent, config, experiment)
