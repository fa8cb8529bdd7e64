"""Give a registered version the alias champion, if it passes the gate."""

from kd import tracking
from kd.config import PromoteConfig
from kd.promotion import decide
from kd.stages.console import say
from kd.tasks import TASKS
from kd.types import Refused, UserError


def run(config: PromoteConfig) -> None:
    """Check a candidate and move the alias.

    Raises:
        UserError: no such version or alias, or its run did not finish.
        Refused: the gate was not passed.
    """
    candidate = config.candidate if config.candidate.startswith("@") else f"/{config.candidate}"
    with tracking.session(config.experiment):
        version = tracking.model_version(f"models:/{config.model}{candidate}", "candidate")
        title = f"promote {version.name} version {version.version}"
        with tracking.run(title, {"kd.stage": "promote"}) as run:
            run.log_params({"model": version.name, "version": version.version, "min_metric": config.min_metric})
            if (state := tracking.status(version.run_id)) != "FINISHED":
                raise UserError(
                    f"candidate={config.candidate!r}: its run {version.run_id} is {state or 'gone'}, not FINISHED"
                )
            record = tracking.record(version.run_id)
            if record.tags.get("kd.task") not in TASKS:
                raise UserError(
                    f"candidate={config.candidate!r} was not made by this project, so its figures are unknown"
                )
            directions = next(task.directions for name, task in TASKS.items() if name == record.tags["kd.task"])
            metric = config.metric.removeprefix("test/") or record.tags["kd.metric"]
            if metric not in directions:
                raise UserError(f"metric={config.metric!r} is none of this task's: give one of {', '.join(directions)}")
            decision = decide(
                f"test/{metric}", record.metrics.get(f"test/{metric}"), config.min_metric, directions[metric]
            )
            run.set_tags({"kd.decision": "pass" if decision.passes else "fail", "kd.reason": decision.reason})
            if not decision.passes:
                raise Refused(f"{title}: {decision.reason}")
            tracking.set_alias(version.name, "champion", str(version.version))
        say(f"{version.name} version {version.version} is champion: {decision.reason}")
        say(f"Serve it: mlflow models serve -m models:/{version.name}@champion --env-manager local")
