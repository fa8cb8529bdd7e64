"""Search hyper-parameters with Optuna: on one process, on several, or on several machines that share a storage."""

from kd import tracking
from kd.base.console import say
from kd.base.types import UserError
from kd.config import HpoConfig
from kd.search.leading import asked, elected, finished, join, lead, require_runs, tell_finished
from kd.search.lease import Superseded
from kd.search.optuna_study import Sampling
from kd.search.prepare import prepare
from kd.search.storage import open_study, unbroken


def run(config: HpoConfig) -> None:
    """Begin a search, go on with it, or join the process that leads it; then retrain, score and register the winner.

    Raises:
        UserError: bad input, or all trials failed.
        Refused: no finalist keeps the budgets.
        Stopped: a signal came; the same command goes on.
    """
    with tracking.session(config.experiment) as experiment:
        if tracking.under_mlflow_run() and tracking.without_password(config.storage) != config.storage:
            raise UserError(
                f"storage={tracking.without_password(config.storage)!r} has a password, which MLflow has "
                "written into this run: delete the run, and leave the password to PGPASSWORD or ~/.pgpass"
            )
        plan = prepare(config, experiment)
        with unbroken(plan.place):
            arms = plan.arms()
            storage = arms[0].search.storage
            leads = open_study(storage, f"{plan.name}-lead", {"done": True}, {}, Sampling("random", "none", 1, 0))
            say(f"Study {plan.name} in {tracking.without_password(plan.place)}")
            label = asked(config)
            require_runs(plan, leads)
            while True:
                if (done := finished(leads, label)) is not None:
                    tell_finished(done)
                    return
                if (claim := elected(leads)) is not None:
                    try:
                        lead(plan, arms, leads, claim)
                        return
                    except Superseded:
                        say("This process was silent for so long that another one has taken the lead")
                if join(plan, arms, leads):
                    say("The time of this search was up; the same command goes on with the trials that are missing")
                    return
