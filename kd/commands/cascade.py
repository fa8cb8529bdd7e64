"""Distil from teacher to assistant to student, beside the direct route, each step with its control."""

from kd import tracking
from kd.base.console import say
from kd.config import CascadeConfig, TeachingOptions, as_params, narrowed
from kd.run import teacher
from kd.run.data import describe, rows_of, short_name
from kd.run.execute import Outcome, Where
from kd.sweep.cascade import carry_out, chain_in_words, conclude, links_of, require_chain


def run(config: CascadeConfig) -> None:
    """Train the teacher once, then on every seed each step and the direct route, and report.

    Raises:
        UserError: bad input or an impossible chain, before anything is trained.
        Stopped: a signal arrived; the same command continues with what is missing.
    """
    with tracking.session(config.experiment) as experiment:
        rows = rows_of(config)
        describe(config, rows)
        require_chain(config, rows)
        tags = {"kd.stage": "cascade", "kd.task": config.task, "kd.dataset": config.dataset}
        with tracking.run(f"cascade {short_name(config.dataset)} {chain_in_words(config)}", tags) as parent:
            parent.log_params(as_params(config))
            teaching = narrowed(TeachingOptions, config, **links_of(config)[0].start)
            where = Where(experiment, parent, reuse=True, profile=False)
            finished = teacher.finished(teaching, rows, where)
            source = Outcome(tracking.maker(finished, "teacher"), finished, reused=True)
            routes = carry_out(config, rows, source, where)
            conclude(routes, config, parent, experiment, rows)
    say(tracking.look(experiment))
