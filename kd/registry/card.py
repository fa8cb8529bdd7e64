"""A model card: what a version is, what it was made from, how it scores, what was decided, and its limits."""

from dataclasses import dataclass
from datetime import UTC, datetime

from kd import tracking
from kd.analysis.gates import Decision
from kd.registry.evidence import Version, logged, teacher_of, weakest
from kd.serving.profile import machine

OPTIONS = (
    *("objective", "alpha", "temperature", "beta", "match"),
    *("layers", "epochs", "learning_rate", "batch_size", "max_train", "labelled", "transfer", "seed"),
)
FIGURES = ("test/", "calibration/", "fidelity/", "export/", "profile/", "model/")

SCORED = ("test/", "calibration/", "fidelity/", "export/")
"""Figures that hold for one test set."""


@dataclass(frozen=True)
class Ruling:
    """A decision, and who made it: run, user, time (ISO 8601, UTC) and processor."""

    decision: Decision
    run_id: str
    user: str
    time: str
    cpu: str


def card(candidate: Version, champion: Version | None, metric: str, ruling: Ruling) -> str:
    """Write the Markdown description of a version, its limits by a test metric; what was not measured is shown as –."""
    record = candidate.record
    parts = [f"# {record.name}", "", *_origin(candidate), "", *_scores(candidate, champion), "", *_gates(ruling)]
    parts += ["", "## Limits", ""]
    parts += [f"- {line}" for line in _limits(candidate, metric)]
    return "\n".join(parts) + "\n"


def _origin(candidate: Version) -> list[str]:
    tags, params = candidate.record.tags, candidate.record.params
    made = {"teacher": "Fine-tuned", "student": "Trained without a teacher", "distilled": "Distilled"}
    teacher = f" Teacher: `{tags['kd.teacher']}`." if "kd.teacher" in tags else ""
    exported = f" Exported as {candidate.exported} from `{tags['kd.exported_from']}`." if candidate.exported else ""
    lines = [
        f"{made.get(tags['kd.role'], tags['kd.role'])} for {tags['kd.task'].replace('_', ' ')} on "
        f"`{tags['kd.dataset']}`.{teacher}{exported}",
        "",
        f"- training rows: digest `{tags.get('kd.dataset_digest', '–')}`",
        f"- test rows: digest `{tags['kd.test_digest']}`",
        f"- run: `{candidate.record.run_id}`, code `{tags.get('kd.git_commit', '–')[:12]}`"
        + (" with uncommitted changes" if tags.get("kd.git_dirty") == "true" else ""),
    ]
    options = [f"{name} {params[name]}" for name in OPTIONS if name in params]
    return [*lines, f"- options: {', '.join(options)}"] if options else lines


def _scores(candidate: Version, champion: Version | None) -> list[str]:
    teacher = teacher_of(candidate)
    columns = [("this version", {**candidate.record.metrics, **candidate.costs})]
    if champion:
        other = champion.record.tags["kd.test_digest"] != candidate.record.tags["kd.test_digest"]
        known = {
            name: value for name, value in champion.record.metrics.items() if not (other and name.startswith(SCORED))
        }
        columns.append((f"champion before, version {champion.number}", {**known, **champion.costs}))
    if teacher and teacher.tags.get("kd.test_digest") == candidate.record.tags["kd.test_digest"]:
        columns.append(("its teacher", dict(teacher.metrics)))
    names = sorted(name for name in columns[0][1] if name.startswith(FIGURES))
    lines = ["## Figures", "", f"| figure | {' | '.join(title for title, _ in columns)} |"]
    lines.append("| :-- |" + " --: |" * len(columns))
    for name in names:
        cells = [_number(figures[name]) if name in figures else "–" for _, figures in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if champion and (shares := _churn(candidate, champion)):
        changed = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        lines += ["", f"Test answers against champion version {champion.number}: {changed} of all examples."]
    return lines


def _churn(candidate: Version, champion: Version) -> dict[str, float]:
    """Return shares of test examples that a candidate answers otherwise than the champion, by what they are.

    Empty where the two have no logged predictions of the same rows.
    """
    if candidate.record.tags["kd.test_digest"] != champion.record.tags["kd.test_digest"]:
        return {}
    ours, theirs = logged(candidate), logged(champion)
    return {} if ours is None or theirs is None else candidate.judge.churn(theirs, ours)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _gates(ruling: Ruling) -> list[str]:
    word = "passed" if ruling.decision.passes else "refused"
    lines = [
        "## Decision",
        "",
        f"**{word}** on {ruling.time} by {ruling.user}, run `{ruling.run_id}`, on {ruling.cpu}.",
    ]
    return [*lines, "", *(f"- {'pass' if gate.passes else 'FAIL'}: {gate.words}" for gate in ruling.decision.gates)]


def _limits(candidate: Version, metric: str) -> list[str]:
    tags, params = candidate.record.tags, candidate.record.params
    lines = [
        f"The scores are of one seed ({tags['kd.seed']}) on one test set; other data was not tried.",
        "Whether distillation helped is a question to several seeds: see the entry point `compare`.",
        f"Latency and memory hold for {tags.get('hw.cpu', 'the machine they were measured on')}.",
    ]
    if slices := weakest(candidate, metric):
        lines.append(f"Weakest by test/{metric} on {'; '.join(slices)}.")
    if params.get("max_length", "").isdecimal():
        lines.append(f"Inputs over {params['max_length']} tokens are cut.")
    return lines


def ruled(decision: Decision, run: tracking.Run) -> Ruling:
    """Return a decision with who made it: the user of the promotion's run, now, on this machine."""
    user = tracking.record(run.run_id).tags.get("mlflow.user", "unknown")
    return Ruling(decision, run.run_id, user, datetime.now(UTC).isoformat(timespec="seconds"), machine()["hw.cpu"])


def as_tags(ruling: Ruling, candidate: Version) -> dict[str, str]:
    """Return a ruling as tags, for the run of the promotion and for the version."""
    decision = ruling.decision
    return {
        "kd.decision": "pass" if decision.passes else "fail",
        "kd.reason": decision.reason,
        "kd.decided_by": ruling.user,
        "kd.decided_at": ruling.time,
        "kd.decided_on": ruling.cpu,
        "kd.decision_run": ruling.run_id,
        "kd.test_digest": candidate.record.tags["kd.test_digest"],
        **{f"kd.gate.{gate.name}": f"{'pass' if gate.passes else 'fail'}: {gate.words}" for gate in decision.gates},
    }
