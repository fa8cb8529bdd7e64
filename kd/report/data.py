"""A comparison for scripts: JSON and CSV. The same runs give the same bytes."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from kd.analysis.slices import Details
from kd.analysis.table import Arm, Table
from kd.base.busy import is_timed
from kd.base.harmless import in_csv
from kd.report.tables import Finding, answer, fitting


def as_json(findings: Sequence[Finding], notes: Sequence[str], inputs: Mapping[str, str]) -> str:
    """Write tables, slices, tests, notes and inputs as JSON; what was not measured is null or absent."""
    tables = [
        {
            **{name: value for name, value in vars(table).items() if name not in ("figures", "doubts", "pictures")},
            "arms": [_arm(arm, details) for arm in table.arms],
            "answer": answer(table).splitlines(),
        }
        for table, details in findings
    ]
    whole = {"inputs": dict(inputs), "tables": tables, "notes": list(notes)}
    return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(findings: Sequence[Finding]) -> str:
    """Write one line an arm; a cell that was not measured is empty, and no text is a formula to a spreadsheet."""
    lines = [_flat(table, arm) for table, _ in findings for arm in table.arms]
    names = list(dict.fromkeys(name for line in lines for name in line))
    fixed = [name for name in names if "/" not in name]
    out = io.StringIO()
    writer = csv.DictWriter(out, [*fixed, *sorted(set(names) - set(fixed))], restval="", lineterminator="\n")
    writer.writerow({name: in_csv(name) for name in writer.fieldnames})
    writer.writerows({name: in_csv(value) for name, value in line.items()} for line in lines)
    return out.getvalue()


def _arm(arm: Arm, details: Details) -> dict[str, Any]:
    return {
        **asdict(arm),
        "slices": [asdict(one) for one in details.slices.get(arm.key, ())],
        "fairness": [asdict(one) for one in details.fairness.get(arm.key, ())],
        "churn": dict(details.churn.get(arm.key, {})),
        "tests": [asdict(one) for one in details.tests.get(arm.key, ())],
    }


def _flat(table: Table, arm: Arm) -> dict[str, Any]:
    gap = arm.difference
    return {
        **{name: getattr(table, name) for name in ("task", "dataset", "split", "digest", "metric")},
        "arm": arm.label,
        "key": arm.key,
        "role": arm.role,
        "seeds": arm.quality.n,
        "mean": arm.quality.mean,
        "low": arm.quality.low,
        "high": arm.quality.high,
        "against": table.against if gap else None,
        "pairs": gap.n if gap else None,
        "difference": gap.mean if gap else None,
        "difference_low": gap.low if gap else None,
        "difference_high": gap.high if gap else None,
        "adjusted_p": arm.adjusted_p,
        "verdict": arm.verdict,
        "detectable": arm.detectable,
        "machine_busy": bool(arm.busy) if any(map(is_timed, arm.figures)) else None,
        "fits": fitting(arm) if arm.devices else None,
        **arm.figures,
        "run_ids": " ".join(arm.run_ids),
    }
