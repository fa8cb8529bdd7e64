"""Figures of time that were measured while the machine was busy: one mark for them wherever they are shown."""

from collections.abc import Iterable, Mapping

from kd.base.console import command
from kd.base.judge import MEASURED
from kd.base.types import RunRecord

MARK = "~"
MEANING = f"{MARK} before a figure: it was measured while the machine was busy, and may be wrong"
TIMED = ("profile/latency", "profile/throughput")


def is_timed(figure: str) -> bool:
    """Whether other work on the machine changes a figure, by the name of its metric."""
    return figure.startswith(TIMED)


def was_busy(tags: Mapping[str, str]) -> bool:
    """Whether the machine was busy when a run's model was measured, by the run's tags."""
    return tags.get("kd.quiet") == "false"


def marked(text: str, figure: str, tags: Mapping[str, str]) -> str:
    """Return a figure as it is shown, with the mark where the machine was busy."""
    return f"{MARK}{text}" if is_timed(figure) and was_busy(tags) else text


def measured_model(record: RunRecord) -> str:
    """Return the URI of the model that was measured for a run."""
    return record.tags.get(MEASURED) or f"runs:/{record.run_id}/model"


def explained(models: Iterable[str]) -> str:
    """Say what the mark means, and how to measure these models, by URI, again; empty where there are none."""
    if not (named := ",".join(dict.fromkeys(models))):
        return ""
    return f"{MEANING}; measure again when it is quiet: {command('measure', '--in_place', 'true', '--model', named)}"
