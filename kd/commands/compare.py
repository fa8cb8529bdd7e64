"""Compare finished runs and answer whether distillation helped."""

import sys
from contextlib import nullcontext, redirect_stdout

from kd import tracking
from kd.base.console import say
from kd.base.types import RunRecord, UserError
from kd.config import CompareConfig, as_params, listed
from kd.report.data import as_csv, as_json
from kd.report.findings import find
from kd.report.publish import inputs, publish, show, where

LEFT_OUT = ("trial", "compare")
"""Stages whose runs are shown only where `runs` or a filter on kd.stage names them."""


def run(config: CompareConfig) -> None:
    """Print the comparison and log it, with a report, in a run of stage `compare`.

    Raises:
        UserError: nothing matches, or a run or model that was named does not exist.
    """
    named = config.runs or config.models
    store = tracking.session("") if named else tracking.reading(next(iter(listed(config.experiments)), ""))
    # MLflow prints the address of a run to stdout, which would break JSON
    with nullcontext() if config.output == "table" else redirect_stdout(sys.stderr), store as experiment:
        findings, notes = find(_records(config, experiment), config)
        with tracking.run(f"compare {experiment}", {"kd.stage": "compare"}) as run:
            run.log_params(as_params(config))
            report = publish(findings, notes, config, run)
    match config.output:
        case "json":
            sys.stdout.write(as_json(findings, notes, inputs(config)))
        case "csv":
            sys.stdout.write(as_csv(findings))
        case "html":
            sys.stdout.write(report)
        case _:
            show(findings, notes)
            say(where(run))


def _records(config: CompareConfig, experiment: str) -> list[RunRecord]:
    """Return the runs named, or those found by experiment and filter."""
    if config.runs or config.models:
        named = [*listed(config.runs), *(tracking.model_version(uri, "models").run_id for uri in listed(config.models))]
        for run_id in named:
            if (state := tracking.status(run_id)) != "FINISHED":
                raise UserError(f"runs: {run_id} is {state or 'not in the store'}, not FINISHED; name finished runs")
        return [tracking.record(run_id) for run_id in dict.fromkeys(named)]
    found = tracking.runs(listed(config.experiments) or (experiment,), config.filter)
    if "kd.stage" in config.filter:
        return found
    return [record for record in found if record.tags.get("kd.stage") not in LEFT_OUT]
