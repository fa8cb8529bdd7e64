"""Distil from teacher to assistant to student, beside the direct route, each step with its control."""

from kd import tracking
from kd.base.console import say
from kd.config import CascadeConfig, TeachingOptions, as_params, narrowed
from kd.run import teacher
from kd.run.data import describe, load_rows, short_name
from kd.run.execute import Where
from kd.sweep.cascade import Progress, Source, carry_out, require_chain, tell_reused, trainings
from kd.sweep.cascade_result import Route, conclude


def run(config: CascadeConfig) -> None:
    """Train the teacher once, then on every seed each step and the direct route, and report.

    Raises:
        UserError: bad input, or a chain that cannot be: before anything is trained.
        Stopped: a signal came; the same command goes on with what is missing.
    """
    with tracking.session(config.experiment) as experiment:
        rows = load_rows(config, config.seed)
        describe(config, rows)
        require_chain(config, rows)
        tags = {"kd.stage": "cascade", "kd.task": config.task, "kd.dataset": config.dataset}
        with tracking.run(f"cascade {short_name(config.dataset)} {'→'.join(map(str, config.layers))}", tags) as parent:
            parent.log_params(as_params(config))
            first = narrowed(TeachingOptions, config, student_layers=str(config.layers[1]))
            guide = teacher.finished(first, rows, Where(experiment, parent, reuse=True))
            source = Source(guide, tracking.maker(guide, "teacher"))
            where = Where(experiment, parent, reuse=True, profile=False)
            progress = Progress(trainings(config))
            seeds = [carry_out(config, seed, source, where, progress) for seed in config.seed_list]
            routes = [Route(steps[0].words, steps) for steps in zip(*seeds, strict=True)]
            tell_reused(routes)
            conclude(routes, config, parent, experiment, rows)
    say("Look at the runs: make ui, or: mlflow ui")
