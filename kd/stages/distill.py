"""Train a student on the labels and on what the teacher says."""

from dataclasses import replace

from kd import tracking
from kd.config import DistillConfig
from kd.objectives import OBJECTIVES
from kd.stages import student
from kd.stages.console import say
from kd.stages.fitting import Plan, Where, train
from kd.stages.registering import register
from kd.stages.rows import Rows, describe, load_rows


def run(config: DistillConfig) -> None:
    """Train, evaluate, log, profile and register a distilled student."""
    with tracking.session(config.experiment) as experiment:
        rows = load_rows(config, config.seed)
        describe(config, rows)
        outcome = train(plan(config, rows), config, Where(experiment))
        name, version = register(outcome, config, rows)
        say(f"Registered {name} version {version}; compare it with its control: python -m entrypoints.compare")


def plan(config: DistillConfig, rows: Rows) -> Plan:
    """Decide the training of a distilled student: its control's plan, with the teacher's terms added.

    Raises:
        UserError: as for a control.
    """
    control = student.plan(config, rows)
    terms = OBJECTIVES[config.objective](config.temperature)
    if not terms:
        return replace(control, stage="distill")
    temperature = {"temperature": config.temperature} if config.objective == "soft" else {}
    guidance = {
        "objective": config.objective,
        "alpha": config.alpha,
        "teacher": control.teacher and control.teacher.digest,
    }
    shown = f" T={config.temperature:g}" if temperature else ""
    return replace(
        control,
        stage="distill",
        role="distilled",
        title=control.title.replace("student ·", f"distill {config.objective}{shown} a={config.alpha:g} ·", 1),
        identity={**control.identity, **temperature, **guidance},
        control=control.identity,
        terms=terms,
        alpha=config.alpha,
    )
