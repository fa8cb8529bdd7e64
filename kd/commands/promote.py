"""Give a registered version the alias champion, if it passes the gates, with evidence; or roll back."""

import shlex

from rich.table import Column

from kd import tracking
from kd.analysis.gates import Decision, decide
from kd.base.budgets import BUDGETS
from kd.base.console import say
from kd.base.terminal import Table, console
from kd.base.types import Refused
from kd.config import GateOptions, PromoteConfig, as_params
from kd.registry import candidates
from kd.registry.aliases import STALE, alone, conclude, copied, promote, roll_back, settle
from kd.registry.card import card, decision_tags
from kd.registry.evidence import Version, gather, measured, of_devices, require_same_service, scored


def run(config: PromoteConfig) -> None:
    """Decide on a candidate and move the alias, or roll back.

    Raises:
        UserError: no such version or alias, figures that cannot be obtained, or another promotion at the same time.
        Refused: a gate did not pass.
    """
    target = config.to_model or config.model
    with tracking.session(config.experiment), alone(target):
        if config.rollback:
            roll_back(config)
        else:
            _promote(config, target)


def _promote(config: PromoteConfig, target: str) -> None:
    gates = candidates.thresholds(config)
    if not config.dry_run:
        settle(target)
    candidate = candidates.named(config)
    before = tracking.aliased(target, "champion")
    champion = candidates.champion(target, before)
    already = champion is not None and champion.record.run_id == candidate.record.run_id
    rival = None if already else champion
    if rival:
        require_same_service(candidate, rival)
    title = f"promote {candidate.name} version {candidate.number}" + (f" to {target}" if config.to_model else "")
    tags = {"kd.stage": "promote", "kd.dry_run": str(config.dry_run).lower(), "kd.candidate": candidate.uri}
    with tracking.run(title, tags) as run:
        ruling, text = _decided(config, gates, candidate, rival, run)
        if ruling["kd.decision"] != "pass":
            raise Refused(f"{title}: {ruling['kd.reason']}")
        if already:
            say(f"{target} version {before} is that model, and champion already: nothing was moved")
            return
        if config.dry_run:
            say(f"{title}: would pass. This was a dry run: nothing was moved.")
            return
        number = copied(candidate, target, ruling, text) if config.to_model else candidate.number
        promote(target, number, before, run.run_id)
    conclude(target)
    say(f"{target} version {number} is champion" + (f"; version {before} is previous" if before else ""))
    say(f"Serve it: mlflow models serve -m {shlex.quote(f'models:/{target}@champion')} --env-manager local --port 5001")


def _decided(
    config: PromoteConfig, gates: GateOptions, candidate: Version, champion: Version | None, run: tracking.Run
) -> tuple[dict[str, str], str]:
    """Gather the evidence, decide, write it into the run and, unless dry, the version; returns tags and model card."""
    metric = candidates.metric_of(gates, candidate)
    wanted = {name: getattr(gates, name) for name in candidates.GATES}
    run.log_params({**as_params(config), **as_params(gates), "metric": metric})
    fitting = {name: most for name, (_, most) in of_devices(gates).items()}
    if fitting or any(wanted[name] is not None for name in BUDGETS):
        candidate, *others = measured([candidate, *filter(None, [champion])], run)
        champion = others[0] if others else None
    candidate = scored(candidate, metric, run)
    figures, absent = gather(candidate, champion, gates, metric, run)
    given = {name: float(value) for name, value in wanted.items() if value is not None} | fitting
    decision = decide(given, figures, absent, candidate.judge.directions[metric])
    if decision.passes:  # a refused model need not be loaded
        decision = Decision((*decision.gates, candidates.answers_as_made(candidate)))
    ruling = decision_tags(decision, candidate, run)
    text = card(candidate, champion, metric, decision, ruling)
    run.log_text(text, "card.md")
    run.set_tags(ruling)
    _show(decision, champion, gates)
    if not config.dry_run:
        tracking.forget(candidate.name, candidate.number, STALE)
        tracking.annotate(candidate.name, candidate.number, ruling, text)
    return ruling, text


def _show(decision: Decision, champion: Version | None, gates: GateOptions) -> None:
    figure, required = (Column(name, justify="right") for name in ("figure", "required"))
    table = Table("gate", figure, required, "result", "what", title="gates", title_justify="left")
    for gate in decision.gates:
        found = "–" if gate.figure is None else f"{gate.figure:.4g}"
        least = f"{'≥' if gate.at_least else '≤'} {gate.threshold:g}"
        result = "–" if gate.passes and gate.figure is None else "pass" if gate.passes else "FAIL"
        table.add_row(gate.name, found, least, result, gate.about)
    if decision.gates:
        console.print(table)
    if not gates.fits and all(getattr(gates, name) is None for name in candidates.GATES):
        say("Warning: no gate was given, so only its answers were checked: see --help for the gates")
    elif champion and gates.allowed_drop is None:
        say(f"Warning: no gate compares it with the champion, version {champion.number}: give allowed_drop, as in 0.01")
