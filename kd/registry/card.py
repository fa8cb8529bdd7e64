"""A model card: what a version is, what it was made from, how it scores, what was decided, and its limits."""

from collections.abc import Mapping
from datetime import UTC, datetime

from kd import tracking
from kd.analysis.gates import Decision
from kd.base.busy import MEANING, marked, was_busy
from kd.base.harmless import in_cell, in_code, in_markdown
from kd.base.judge import OF_TASKS
from kd.base.types import RunRecord
from kd.registry.evidence import Version, logged, same_test, teacher_of, weakest
from kd.serving.profile import machine

OPTIONS = (
    *("objective", "alpha", "temperature", "beta", "match"),
    *("layers", "epochs", "learning_rate", "batch_size", "max_train", "labelled", "transfer", "seed"),
)
SCORED = ("test/", *OF_TASKS, "export/")
"""Figures of one test set."""
COSTS = ("profile/", "model/")
MADE = {"teacher": "Fine-tuned", "student": "Trained without a teacher", "distilled": "Distilled"}


def decision_tags(decision: Decision, candidate: Version, run: tracking.Run) -> dict[str, str]:
    """Return a decision, and who made it where and when, as tags for the run of the promotion and for the version."""
    return {
        "kd.decision": "pass" if decision.passes else "fail",
        "kd.reason": decision.reason,
        "kd.decided_by": tracking.record(run.run_id).tags.get("mlflow.user", "unknown"),
        "kd.decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "kd.decided_on": machine()["hw.cpu"],
        "kd.decision_run": run.run_id,
        "kd.test_digest": candidate.record.tags["kd.test_digest"],
        **{f"kd.gate.{gate.name}": f"{'pass' if gate.passes else 'fail'}: {gate.words}" for gate in decision.gates},
    }


def card(
    candidate: Version, champion: Version | None, metric: str, decision: Decision, ruling: Mapping[str, str]
) -> str:
    """Write the Markdown description of a version, its limits by a test metric; what was not measured is shown as –."""
    parts = [f"# {in_markdown(candidate.record.name)}", "", *_origin(candidate), "", *_scores(candidate, champion)]
    parts += ["", "## Decision", ""]
    decided = "passed" if decision.passes else "refused"
    who, machine_name = (in_cell(ruling[f"kd.decided_{how}"]) for how in ("by", "on"))
    parts.append(
        f"**{decided}** on {ruling['kd.decided_at']} by {who}, run `{ruling['kd.decision_run']}`, on {machine_name}."
    )
    parts += ["", *(f"- {'pass' if gate.passes else 'FAIL'}: {in_cell(gate.words)}" for gate in decision.gates)]
    parts += ["", "## Limits", "", *(f"- {in_cell(line)}" for line in _limits(candidate, metric))]
    return "\n".join(parts) + "\n"


def _origin(candidate: Version) -> list[str]:
    tags, params = candidate.record.tags, candidate.record.params
    teacher = f" Teacher: {in_code(tags['kd.teacher'])}." if "kd.teacher" in tags else ""
    exported = (
        f" Exported as {candidate.exported} from {in_code(tags['kd.exported_from'])}." if candidate.exported else ""
    )
    lines = [
        f"{MADE.get(tags['kd.role'], tags['kd.role'])} for {tags['kd.task'].replace('_', ' ')} on "
        f"{in_code(tags['kd.dataset'])}.{teacher}{exported}",
        "",
        f"- training rows: digest `{tags.get('kd.dataset_digest', '–')}`",
        f"- test rows: digest `{tags['kd.test_digest']}`",
        f"- run: `{candidate.record.run_id}`, code `{tags.get('kd.git_commit', '–')[:12]}`"
        + (" with uncommitted changes" if tags.get("kd.git_dirty") == "true" else ""),
    ]
    options = [f"{name} {params[name]}" for name in OPTIONS if name in params]
    return [*lines, f"- options: {in_cell(', '.join(options))}"] if options else lines


def _scores(candidate: Version, champion: Version | None) -> list[str]:
    """Compare with champion and teacher; with one of other test rows, only in what does not depend on the rows."""
    measured = {"this version": candidate.measurement}
    columns = {"this version": _figures(candidate.record, candidate.measurement)}
    alike = champion is not None and same_test(candidate.record, champion.record)
    if champion:
        name = f"champion before, version {champion.number}"
        measured[name] = champion.measurement
        known = _figures(champion.record, champion.measurement)
        columns[name] = {key: known[key] for key in known if alike or not key.startswith(SCORED)}
    if (teacher := teacher_of(candidate.record)) and same_test(candidate.record, teacher):
        measured["its teacher"] = teacher
        columns["its teacher"] = _figures(teacher, teacher)
    lines = ["## Figures", "", f"| figure | {' | '.join(columns)} |", "| :-- |" + " --: |" * len(columns)]
    for name in sorted(columns["this version"]):
        cells = [
            marked(_number(figures[name]), name, measured[column].tags) if name in figures else "–"
            for column, figures in columns.items()
        ]
        lines.append(f"| {in_cell(name)} | {' | '.join(cells)} |")
    lines += ["", *_measurements(measured)]
    if champion and alike:
        ours, theirs = logged(candidate.record), logged(champion.record)
        if ours is not None and theirs is not None and (shares := candidate.judge.churn(theirs, ours)):
            changed = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
            lines += ["", f"Test answers against champion version {champion.number}: {changed} of all examples."]
    return lines


def _figures(record: RunRecord, measured: RunRecord) -> dict[str, float]:
    """Return the figures of a model, those of what it costs all of one measurement."""
    scored = {name: value for name, value in record.metrics.items() if name.startswith(SCORED)}
    return scored | {name: value for name, value in measured.metrics.items() if name.startswith(COSTS)}


def _measurements(measured: Mapping[str, RunRecord]) -> list[str]:
    """Say of each column which measurement its costs are of, and what the mark means where there is one."""
    lines = [
        f"- What {column} costs is of one measurement, in run `{one.run_id}` on {one.tags.get('hw.cpu', '–')}."
        for column, one in measured.items()
        if any(name.startswith("profile/") for name in one.metrics)
    ]
    return lines + [f"- {MEANING}."] * any(was_busy(one.tags) for one in measured.values())


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _limits(candidate: Version, metric: str) -> list[str]:
    tags, params = candidate.record.tags, candidate.record.params
    machine = candidate.measurement.tags.get("hw.cpu", "the machine they were measured on")
    lines = [
        f"The scores are of one seed ({tags['kd.seed']}) on one test set; other data was not tried.",
        "Whether distillation helped is a question to several seeds: `kd compare` answers it.",
        f"Latency and memory are those of {machine}.",
    ]
    if slices := weakest(candidate, metric):
        lines.append(f"Weakest by test/{metric} on {'; '.join(slices)}.")
    if params.get("max_length", "").isdecimal():
        lines.append(f"Inputs over {params['max_length']} tokens are cut.")
    return lines
