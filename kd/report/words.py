"""A comparison in plain sentences."""

from kd.analysis.comparison import SAME_STUDENT, TUNED, Arm, Table


def answer(table: Table) -> str:
    """Answer "did distillation help?", or how it does against the baseline, in a plain sentence an arm."""
    distilled = [arm for arm in table.arms if arm.role == "distilled" and arm.label != table.against]
    if not distilled:
        return "There is no distilled student to judge among these runs."
    return "\n".join(_sentence(table, arm) for arm in distilled)


def _sentence(table: Table, arm: Arm) -> str:
    if arm.difference is None or arm.difference.mean is None:
        return f"{arm.label}: cannot be said: {table.against}, trained on the same seed, is not among these runs."
    gap = arm.difference
    interval = f", 95 % interval {gap.low:+.3f} to {gap.high:+.3f}" if gap.low is not None else ""
    seeds = f"{gap.n} seed" + ("s" if gap.n != 1 else "")
    figure = f"{table.split} {table.metric} {gap.mean:+.3f} against {table.against}{interval}, {seeds}"
    control = table.against in (SAME_STUDENT, TUNED)
    match arm.verdict:
        case "better":
            return f"{arm.label}: {'yes, distillation helped' if control else 'better'}: {figure}."
        case "worse":
            return f"{arm.label}: {'no, distillation hurt' if control else 'worse'}: {figure}."
        case "no difference shown":
            unseen = f"; a true difference under {arm.detectable:.3f} could go unseen" if arm.detectable else ""
            return f"{arm.label}: no {'gain' if control else 'difference'} shown: {figure}{unseen}."
        case _:
            return f"{arm.label}: too few seeds to say: {figure}; a claim needs at least three."
