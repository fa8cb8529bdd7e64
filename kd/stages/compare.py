"""Compare finished runs and answer whether distillation helped."""

from dataclasses import replace

from kd import tracking
from kd.comparison import Table, answer, compare
from kd.config import CompareConfig
from kd.report.tables import caption, markdown, rich_tables
from kd.stages.console import console, say
from kd.tasks import TASKS
from kd.types import UserError


def run(config: CompareConfig) -> None:
    """Print the tables of an experiment and log them in a run of stage `compare`."""
    with tracking.reading(config.experiment) as experiment:
        tables = tables_of(experiment, config.filter, config.metric)
        with tracking.run(f"compare {experiment}", {"kd.stage": "compare"}) as run:
            run.log_params({"filter": config.filter, "metric": config.metric})
            show(tables, run)


def tables_of(experiment: str, query: str = "", metric: str = "") -> list[Table]:
    """Compare the finished runs of an experiment that a query matches.

    Raises:
        UserError: nothing matches, or the metric is unknown.
    """
    directions = {str(name): task.directions for name, task in TASKS.items()}
    tables = compare(tracking.runs(experiment, query), directions, metric)
    if not tables:
        raise UserError(f"experiment={experiment!r}: no finished run with a test score matches filter={query!r}")
    return [replace(table, times_scored=tracking.times_scored(table.test_digest)) for table in tables]


def show(tables: list[Table], run: tracking.Run) -> None:
    """Print tables and answers, and keep them with their run ids as artifacts."""
    for table in tables:
        console.print(*rich_tables(table), sep="\n")
        say(caption(table))
        say(f"Did distillation help?\n{answer(table)}")
    pages = [f"{markdown(table)}\n{answer(table)}\n\nRuns: {_run_ids(table)}\n" for table in tables]
    run.log_text("\n".join(pages), "comparison.md")


def _run_ids(table: Table) -> str:
    return ", ".join(run_id for arm in table.arms for run_id in arm.run_ids)
