"""What a promotion decides on: by which gates, which version, which it would follow, and whether it still answers."""

import json
import math
from dataclasses import fields

from kd import tracking
from kd.analysis.gates import TOLERANCE, Gate, largest_difference
from kd.base.console import did_you_mean, say, shown
from kd.base.types import Refused, UserError
from kd.base.written import parse_yaml, read_text
from kd.config import GateOptions, PromoteConfig
from kd.registry.evidence import Version, version_at
from kd.serving import package

NAMES = {"metric": "metric", "ratio_by": "column", "devices": "file", "fits": "device"}
"""Options of gates that are the name of something, and of what; all others are thresholds."""
GATES = tuple(field.name for field in fields(GateOptions) if field.name not in NAMES)


def named(config: PromoteConfig) -> Version:
    """Return the version that the option `candidate` names."""
    tracking.require_model(config.model, "model")
    if config.candidate == "best":
        return _best(config.model)
    place = config.candidate if config.candidate.startswith("@") else f"/{config.candidate}"
    return version_at(f"models:/{config.model}{place}", "candidate")


def _best(model: str) -> Version:
    """Return the version whose run is best on validation, the oldest of equals; what cannot serve is passed over."""
    found, reasons, rows = [], [], ""
    for one in reversed(tracking.versions(model)):
        try:
            version = version_at(f"models:/{model}/{one.version}", "candidate")
        except UserError as error:
            reasons.append(str(error))
            continue
        metric, higher = next(iter(version.judge.directions.items()))
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
        why = " ".join(["", *reasons])
        raise UserError(f"candidate='best': no version of {model!r} has a validation metric.{why}")
    _, _, version, figure = max(found, key=lambda one: one[:2])
    say(f"Best on validation: version {version.number} ({figure})")
    for reason in reasons:
        say(f"Left out: {reason}")
    return version


def champion(target: str, number: str) -> Version | None:
    """Return the champion, None where there never was one; UserError where it is gone, as anything would pass then."""
    if number:
        return version_at(f"models:/{target}/{number}", "champion")
    if former := tracking.aliased(target, "previous"):
        raise UserError(
            f"model={target!r} has no champion, but version {former} is previous: the champion was deleted, or lost "
            "its alias; give --rollback first, so that candidates are compared with a champion"
        )
    return None


def thresholds(config: PromoteConfig) -> GateOptions:
    """Return the gates of the YAML file and of the options, which outrank it; UserError where the file is not right."""
    given = {field.name: getattr(config, field.name) for field in fields(GateOptions)}
    own = {name: value for name, value in given.items() if value not in (None, "")}
    if not config.gates:
        return GateOptions(**own)
    option = f"gates={config.gates!r}"
    read = parse_yaml(read_text(config.gates, option, "give a YAML file of gates"), option)
    if not isinstance(read, dict) or not read:
        raise UserError(f"{option} must have lines such as: allowed_drop: 0.01")
    for name, value in read.items():
        if name not in given:
            hint = did_you_mean(str(name), given, f"known: {', '.join(given)}")
            raise UserError(f"{option}: unknown gate {shown(name)}; {hint}")
        if name in NAMES:
            if not isinstance(value, str):
                raise UserError(f"{option}: {name}={shown(value)} is no {NAMES[name]}'s name")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            got = "nothing" if value is None else shown(value)
            raise UserError(f"{option}: {name} is {got}: give a number, such as 0.01, or leave the line out")
    try:
        gates = GateOptions(**{**read, **own})
        _ = gates.required_devices
        return gates
    except UserError as error:  # the options were in range already
        raise UserError(f"{option}: {error}") from error


def metric_of(gates: GateOptions, candidate: Version) -> str:
    """Return the metric that the gates read, without its split; UserError where the task has none of that name."""
    metric = gates.metric.removeprefix("test/") or next(iter(candidate.judge.directions))
    if metric not in candidate.judge.directions:
        known = ", ".join(candidate.judge.directions)
        raise UserError(f"metric={gates.metric!r} is no metric of this task: give one of {known}")
    return metric


def answers_as_made(candidate: Version) -> Gate:
    """Load the candidate in a fresh process and compare its answers with those logged when it was made."""
    say(f"Loading {candidate.uri} in a fresh process ...")
    about = "largest difference between its answers now and when it was made"
    try:
        expected = json.loads(tracking.text(candidate.record.run_id, tracking.ANSWERS))
    except tracking.Gone as error:
        raise UserError(
            f"{candidate.uri}: its run has no {tracking.ANSWERS}, the answers logged when it was made, so the stored "
            "model cannot be checked: make the version again with this version of the project"
        ) from error
    folder = candidate.folder  # foreign code is a mistake, and no gate
    try:
        package.require_whole(folder, f"{candidate.uri} does not load")
    except UserError as damage:
        return Gate("answers", None, TOLERANCE, False, False, str(damage))
    try:
        difference = largest_difference(expected, tracking.answers_apart(candidate.uri))
    except Refused as refusal:
        return Gate("answers", None, TOLERANCE, False, False, str(refusal))
    return Gate("answers", difference, TOLERANCE, False, difference <= TOLERANCE, about)
