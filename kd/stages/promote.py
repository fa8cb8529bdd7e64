"""Give a registered version the alias champion, if it passes the gates, with evidence and a way back."""

import difflib
import json
import math
import shlex
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path

import yaml
from rich.table import Table as RichTable

from kd import tracking
from kd.config import GateOptions, PromoteConfig
from kd.profiling import machine
from kd.promotion import TOLERANCE, Decision, Gate, decide, largest_difference
from kd.stages.aliases import alone, move, roll_back
from kd.stages.cards import Ruling, card
from kd.stages.console import console, say
from kd.stages.evidence import MEASURED, Version, gather, measured, require_same_service, scored, version_at
from kd.types import Refused, UserError

STALE = ("kd.gate.", "kd.rolled_back")
"""Tags that an earlier decision left on a version."""
MOST = 1e300
"""Thresholds past which no float goes."""
GATES = tuple(field.name for field in fields(GateOptions) if field.name != "metric")


def run(config: PromoteConfig) -> None:
    """Decide on a candidate and move the alias, or roll back.

    Raises:
        UserError: no such version or alias, figures that cannot be had, or another promotion at the same time.
        Refused: a gate was not passed.
    """
    target = config.to_model or config.model
    with tracking.session(config.experiment), alone(target):
        if config.rollback:
            roll_back(config)
        else:
            _promote(config, _gates(config), target)


def _promote(config: PromoteConfig, gates: GateOptions, target: str) -> None:
    candidate = _candidate(config)
    before = tracking.aliased(target, "champion")
    champion = _champion(target, before)
    standing = champion is not None and champion.record.run_id == candidate.record.run_id
    if standing:
        champion = None  # it is not held against itself
    if champion:
        require_same_service(candidate, champion)
    metric = _metric(gates, candidate)
    title = f"promote {candidate.name} version {candidate.number}" + (f" to {target}" if config.to_model else "")
    tags = {"kd.stage": "promote", "kd.dry_run": str(config.dry_run).lower(), "kd.candidate": candidate.uri}
    with tracking.run(title, tags) as run:
        run.log_params({**asdict(config), **{name: getattr(gates, name) for name in GATES}, "metric": metric})
        if any(getattr(gates, name) is not None for name in MEASURED):
            candidate = measured(candidate, run)
            champion = measured(champion, run) if champion else None
        candidate = scored(candidate, metric, run)
        evidence = gather(candidate, champion, gates, metric, run)
        asked = {name: float(value) for name in GATES if (value := getattr(gates, name)) is not None}
        decision = decide(asked, evidence.figures, evidence.absent, candidate.task.directions[metric])
        if decision.passes:  # a model that is refused anyway need not be loaded
            decision = Decision((*decision.gates, _answers(candidate)))
        ruling = _ruling(decision, run)
        text = card(candidate, champion, metric, ruling)
        run.log_text(text, "card.md")
        run.set_tags(_as_tags(ruling, candidate))
        _show(decision, champion, gates)
        if not config.dry_run:
            tracking.forget(candidate.name, candidate.number, STALE)
            tracking.annotate(candidate.name, candidate.number, _as_tags(ruling, candidate), text)
        if not decision.passes:
            raise Refused(f"{title}: {decision.reason}")
        if standing:
            say(f"{target} version {before} is that model, and champion already: nothing was moved")
            return
        if config.dry_run:
            say(f"{title}: would pass. This was a dry run: nothing was moved.")
            return
        number = _copied(candidate, config, text, ruling) if config.to_model else candidate.number
        move(target, number, before)
    say(f"{target} version {number} is champion" + (f"; version {before} is previous" if before else ""))
    say(f"Serve it: mlflow models serve -m {shlex.quote(f'models:/{target}@champion')} --env-manager local --port 5001")


def _champion(target: str, number: str) -> Version | None:
    """Return the champion; None where there never was one.

    Raises:
        UserError: it is gone, so that the gates against it would be passed by anything.
    """
    if number:
        return version_at(f"models:/{target}/{number}", "champion")
    if former := tracking.aliased(target, "previous"):
        raise UserError(
            f"model={target!r} has no champion, but version {former} is previous: the champion was deleted, or lost "
            "its alias; give --rollback first, so that candidates are held against a champion"
        )
    return None


def _gates(config: PromoteConfig) -> GateOptions:
    """Return the gates of the YAML file and of the options, which outrank it.

    Raises:
        UserError: the file is not there, is no mapping, or asks for something unknown or out of range.
    """
    given = {field.name: getattr(config, field.name) for field in fields(GateOptions)}
    own = {name: value for name, value in given.items() if value not in (None, "")}
    if not config.gates:
        return GateOptions(**own)
    named = f"gates={config.gates!r}"
    try:
        read = yaml.safe_load(Path(config.gates).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{named} cannot be read ({error.strerror}): give a YAML file of gates") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{named} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(read, dict):
        raise UserError(f"{named} must hold lines such as: allowed_drop: 0.01")
    for name, value in read.items():
        if name not in given:
            near = difflib.get_close_matches(str(name), given, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(given)}"
            raise UserError(f"{named}: unknown gate {name!r}; {hint}")
        if name == "metric" and not isinstance(value, str):
            raise UserError(f"{named}: metric={value!r} is no metric's name")
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST
        if name != "metric" and not number:
            raise UserError(f"{named}: {name}={repr(value)[:50]} is no number that can be asked")
    return GateOptions(**{**read, **own})


def _candidate(config: PromoteConfig) -> Version:
    if config.candidate == "best":
        return _best(config.model)
    place = config.candidate if config.candidate.startswith("@") else f"/{config.candidate}"
    return version_at(f"models:/{config.model}{place}", "candidate")


def _best(model: str) -> Version:
    """Return the version whose run is best on validation, the oldest of equals; what cannot serve is passed over.

    Raises:
        UserError: there is no version that can be promoted.
    """
    found, reasons, rows = [], [], ""
    for one in reversed(tracking.versions(model)):
        try:
            version = version_at(f"models:/{model}/{one.version}", "candidate")
        except UserError as error:
            reasons.append(str(error))
            continue
        metric, higher = next(iter(version.task.directions.items()))
        value = version.record.metrics.get(f"val/{metric}", math.nan)
        validated_on = version.record.tags.get("kd.validation_digest", "unknown")
        rows = rows or validated_on
        if not math.isfinite(value):
            reasons.append(f"Version {version.number} has no val/{metric}.")
        elif validated_on != rows:
            reasons.append(f"Version {version.number} was validated on other rows than the newest.")
        else:
            found.append((value if higher else -value, -int(version.number), version, f"val/{metric} {value:.4g}"))
    if not found:
        tracking.model_version(f"models:/{model}/1", "model")  # says what there is, where the model itself is not
        why = " ".join(["", *reasons])
        raise UserError(f"candidate='best': no version of {model!r} has a validation metric.{why}")
    _, _, version, figure = max(found, key=lambda one: one[:2])
    say(f"Best on validation: version {version.number} ({figure})")
    for reason in reasons:
        say(f"Left out: {reason}")
    return version


def _metric(gates: GateOptions, candidate: Version) -> str:
    metric = gates.metric.removeprefix("test/") or next(iter(candidate.task.directions))
    if metric not in candidate.task.directions:
        known = ", ".join(candidate.task.directions)
        raise UserError(f"metric={gates.metric!r} is none of this task's: give one of {known}")
    return metric


def _answers(candidate: Version) -> Gate:
    """Load the candidate in a fresh process and compare its answers with those logged when it was made.

    Raises:
        UserError: no answers were logged.
    """
    say(f"Loading {candidate.uri} in a fresh process ...")
    about = "largest difference between its answers now and when it was made"
    try:
        expected = json.loads(tracking.text(candidate.record.run_id, tracking.ANSWERS))
    except tracking.Gone as error:
        raise UserError(
            f"{candidate.uri}: its run has no {tracking.ANSWERS}, the answers logged when it was made, so the stored "
            "model cannot be checked: make the version again with this version of the project"
        ) from error
    try:
        difference = largest_difference(expected, tracking.answers_apart(candidate.uri))
    except Refused as refusal:
        return Gate("answers", None, TOLERANCE, False, False, str(refusal))
    return Gate("answers", difference, TOLERANCE, False, difference <= TOLERANCE, about)


def _ruling(decision: Decision, run: tracking.Run) -> Ruling:
    user = tracking.record(run.run_id).tags.get("mlflow.user", "unknown")
    return Ruling(decision, run.run_id, user, datetime.now(UTC).isoformat(timespec="seconds"), machine()["hw.cpu"])


def _as_tags(ruling: Ruling, candidate: Version) -> dict[str, str]:
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


def _show(decision: Decision, champion: Version | None, gates: GateOptions) -> None:
    table = RichTable(title="gates", title_justify="left")
    for name in ("gate", "figure", "asked", "result", "what"):
        table.add_column(name, justify="right" if name in ("figure", "asked") else "left")
    for gate in decision.gates:
        figure = "–" if gate.figure is None else f"{gate.figure:.4g}"
        asked = f"{'≥' if gate.at_least else '≤'} {gate.threshold:g}"
        result = "–" if gate.passes and gate.figure is None else "pass" if gate.passes else "FAIL"
        table.add_row(gate.name, figure, asked, result, gate.about)
    if decision.gates:
        console.print(table)
    if len(decision.gates) <= 1:
        say("Warning: no gate was asked, so only its answers were checked: see --help for the gates")
    elif champion and gates.allowed_drop is None:
        say(f"Warning: no gate compares it with the champion, version {champion.number}: give allowed_drop, as in 0.01")


def _copied(candidate: Version, config: PromoteConfig, text: str, ruling: Ruling) -> str:
    """Copy the version to the other registered model; the two share their files, so the run behind them is marked."""
    number = tracking.copy_version(candidate.uri, config.to_model)
    tracking.annotate(config.to_model, number, _as_tags(ruling, candidate), text)
    tracking.Run(candidate.record.run_id).set_tags({"kd.protected": f"models:/{config.to_model}/{number}"})
    say(
        f"Warning: {config.to_model} version {number} shares the files of {candidate.uri}; deleting run "
        f"{candidate.record.run_id} and `mlflow gc` would break both. The run is tagged kd.protected."
    )
    return number
