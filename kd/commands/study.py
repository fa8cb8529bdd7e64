"""Train the same student under every condition of a design, with its controls, and report what mattered."""

from contextlib import nullcontext

from kd import tracking
from kd.base.console import say
from kd.config import StudyConfig, as_params
from kd.sweep.planning import all_rows, announce, expected, planned


def run(config: StudyConfig) -> None:
    """Train each teacher once for each number of labels, then every cell that is not finished yet, and report.

    Raises:
        UserError: bad input or an impossible cell, before anything but teachers is trained.
        Stopped: a signal arrived; the same command continues with what is missing.
    """
    with tracking.session(config.experiment) if tracking.under_mlflow_run() else nullcontext():
        config, design, todo = planned(config)
        announce(design, todo)
        counts = all_rows(config, todo)
        if config.dry_run:
            say(expected(config, todo, counts))
            return
    from kd.run.execute import Where  # what is wrong above costs no import of torch
    from kd.sweep import study

    with tracking.session(config.experiment) as experiment:
        tags = {"kd.stage": "study", "kd.study": design.name, "kd.task": config.task, "kd.dataset": config.dataset}
        with tracking.run(f"study {design.title}", tags) as parent:
            parent.log_params(as_params(config))
            parent.log_text(design.text, "design.yaml")
            todo = study.with_teachers(config, todo, Where(experiment, parent, reuse=True, profile=False))
            works = study.trainings(config, todo)
            guess = study.seconds_a_layer(todo[0].config.teacher)
            where = Where(experiment, parent, reuse=True, profile=False, tags={"kd.study": design.name})
            results = study.carry_out(todo, works, where, config.workers, guess)
            study.conclude(design, list(zip(todo, results, strict=True)), parent, config, experiment)
