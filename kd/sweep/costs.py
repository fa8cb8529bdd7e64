"""What an architecture costs, measured once for all its arms, and the runs that every comparison shows beside them."""

from collections.abc import Mapping
from dataclasses import replace

from kd import tracking
from kd.analysis.comparison import Table
from kd.base.console import say
from kd.base.types import RunRecord
from kd.config import FitOptions
from kd.serving.measure import is_profiled, measure_apart

ARCHITECTURE = "kd.architecture"
COSTS = ("profile/", "model/")
ONCE = "Latency and RAM were measured once for each architecture, on one of its trainings, and apply to all its arms."


def profiled(
    models: Mapping[str, str], records: Mapping[str, RunRecord], budgets: FitOptions
) -> dict[str, dict[str, float]]:
    """Return what each architecture costs; one run of each is profiled, unless one has been.

    Args:
        models: URI of each run's model, by run id.
        records: the same runs.
        budgets: of latency, RAM and size.
    """
    found: dict[str, dict[str, float]] = {}
    for shape in dict.fromkeys(record.tags[ARCHITECTURE] for record in records.values()):
        mine = [record for record in records.values() if record.tags[ARCHITECTURE] == shape]
        known = next((record for record in mine if is_profiled(record.metrics)), None)
        if known is None:
            say(f"Measuring {mine[0].name}, for all of its architecture, in a fresh process")
            measure_apart(models[mine[0].run_id], mine[0].run_id, budgets)
            known = tracking.record(mine[0].run_id)
        found[shape] = {name: value for name, value in known.metrics.items() if name.startswith(COSTS)}
    return found


def with_costs(table: Table, records: Mapping[str, RunRecord], costs: Mapping[str, Mapping[str, float]]) -> Table:
    """Give each arm what its architecture costs."""
    arms = []
    for arm in table.arms:
        shapes = {records[run_id].tags[ARCHITECTURE] for run_id in arm.run_ids if run_id in records}
        known = costs[shapes.pop()] if len(shapes) == 1 else {}
        arms.append(replace(arm, figures={**known, **arm.figures}))
    return replace(table, arms=tuple(arms))


def beside(records: Mapping[str, RunRecord], experiment: str) -> list[str]:
    """Return the runs of the teachers and of the trivial baselines on the same rows."""
    one = next(iter(records.values()))
    teachers = dict.fromkeys(record.tags["kd.teacher"] for record in records.values())
    same = f"tags.`kd.test_digest` = '{one.tags['kd.test_digest']}' and tags.`kd.role` = 'trivial'"
    rows = {record.tags["kd.dataset_digest"] for record in records.values()}
    simple = [run.run_id for run in tracking.runs([experiment], same) if run.tags["kd.dataset_digest"] in rows]
    stored = [uri for uri in teachers if uri.startswith(("models:/", "runs:/"))]
    made = [tracking.maker(uri, "teacher") for uri in stored]
    return [run_id for run_id in dict.fromkeys([*simple, *filter(None, made)]) if run_id not in records]
