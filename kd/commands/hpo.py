"""Search hyper-parameters with Optuna: in one process, in several, or on several machines that share a storage."""

from kd import tracking
from kd.base.console import say
from kd.base.harmless import without_secrets
from kd.base.types import UserError
from kd.config import HpoConfig
from kd.search.leading import require_runs, take_part
from kd.search.prepare import prepare
from kd.search.storage import unbroken


def run(config: HpoConfig) -> None:
    """Begin or continue a search, or join the process that leads it; then retrain, score and register the winner.

    Raises:
        UserError: bad input, or all trials failed.
        Refused: no finalist meets the budgets.
        Stopped: a signal arrived; the same command continues.
    """
    with tracking.session(config.experiment) as experiment:
        shown = without_secrets(config.storage)
        if tracking.under_mlflow_run() and shown != config.storage:
            raise UserError(
                f"storage={shown!r} has a password or token, which MLflow has written into this run: delete the run, "
                "and leave the password to PGPASSWORD or ~/.pgpass"
            )
        plan = prepare(config, experiment)
        with unbroken(plan.place):
            arms = plan.arms()
            leads = plan.leads(arms[0].search.storage)
            say(f"Study {plan.name} in {without_secrets(plan.place)}")
            require_runs(plan, leads)
            take_part(plan, arms, leads)
