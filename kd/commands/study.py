"""Train the same student under every condition of a design, with its controls, and report what mattered."""

from pathlib import Path

from kd import tracking
from kd.config import StudyConfig, as_params
from kd.run.execute import Where
from kd.sweep import study


def run(config: StudyConfig) -> None:
    """Train each teacher once for each number of labels, then every cell that is not finished yet, and report.

    Raises:
        UserError: bad input or an impossible cell, before anything but teachers is trained.
        Stopped: a signal arrived; the same command continues with what is missing.
    """
    config, design, todo = study.planned(config)
    study.announce(design, todo)
    if config.dry_run:
        return
    with tracking.session(config.experiment) as experiment:
        study.all_rows(config, todo)
        tags = {"kd.stage": "study", "kd.study": design.name, "kd.task": config.task, "kd.dataset": config.dataset}
        with tracking.run(f"study {design.title}", tags) as parent:
            parent.log_params(as_params(config))
            parent.log_text(Path(config.design).read_text(encoding="utf-8"), "design.yaml")
            todo = study.with_teachers(config, todo, Where(experiment, parent, reuse=True))
            works = study.trainings(config, todo)
            guess = study.seconds_a_layer(todo[0].config.teacher)
            where = Where(experiment, parent, reuse=True, profile=False, tags={"kd.study": design.name})
            results = study.carry_out(todo, works, where, config.workers, guess)
            study.conclude(design, list(zip(todo, results, strict=True)), parent, config, experiment)
