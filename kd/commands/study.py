"""Train the same student under every condition of a design, with its controls, and report what mattered."""

from pathlib import Path

from kd import tracking
from kd.config import StudyConfig, as_params
from kd.run.execute import Where
from kd.sweep.study_plan import all_rows, announce, planned, seconds_a_layer, trainings, with_teachers
from kd.sweep.study_run import carry_out_study, conclude


def run(config: StudyConfig) -> None:
    """Train each teacher once for each number of labels, then every cell that is not finished yet, and report.

    Raises:
        UserError: bad input or an impossible cell, before anything but teachers is trained.
        Stopped: a signal arrived; the same command continues with what is missing.
    """
    config, design, todo = planned(config)
    announce(design, todo)
    if config.dry_run:
        return
    with tracking.session(config.experiment) as experiment:
        all_rows(config, todo)
        tags = {"kd.stage": "study", "kd.study": design.name, "kd.task": config.task, "kd.dataset": config.dataset}
        with tracking.run(f"study {design.title}", tags) as parent:
            parent.log_params(as_params(config))
            parent.log_text(Path(config.design).read_text(encoding="utf-8"), "design.yaml")
            todo = with_teachers(config, todo, Where(experiment, parent, reuse=True))
            works = trainings(config, todo)
            guess = seconds_a_layer(todo[0].config.teacher)
            where = Where(experiment, parent, reuse=True, profile=False, tags={"kd.study": design.name})
            results = carry_out_study(todo, works, where, config.workers, guess)
            conclude(design, list(zip(todo, results, strict=True)), parent, config, experiment)
