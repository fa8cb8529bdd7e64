"""Profile a logged model in this process, which is fresh, or several in one sitting."""

from kd import tracking
from kd.base.console import say
from kd.config import MeasureConfig, listed
from kd.run.measured import measure_again
from kd.serving.profile import ROUNDS
from kd.serving.seat import Seat
from kd.serving.sitting import log


def run(config: MeasureConfig) -> None:
    """Measure a model, and log into a new run; or several in turn, and log into the runs that made them.

    Raises:
        UserError: a model or its run is not there, or cannot be used.
    """
    with tracking.session(config.experiment):
        if config.in_place:
            measure_again([tracking.maker(uri, "model") for uri in listed(config.model)], config)
            return
        with tracking.run(f"measure {config.model}", {"kd.stage": "measure"}) as run:
            run.log_params({"model": config.model})
            _measure(config, run)


def _measure(config: MeasureConfig, run: tracking.Run) -> None:
    seat = Seat(config.model)
    with seat.profiler as profiler:
        for _ in range(ROUNDS):
            profiler.round()
        measured = seat.finish()
    verdicts = log(run, measured, config)
    for line in measured.words.splitlines():
        say(line)
    for limit, fit in verdicts.items():
        say(f"{limit}: {'fits' if fit else 'does not fit'}")
