"""What speaks against serving the models of a table, whatever the verdicts: said before them. Pure."""

from collections.abc import Mapping, Sequence

from kd.analysis.table import Arm, Doubt, Table
from kd.base.types import RunRecord

NAMED = 3
"""Arms that one sentence names."""
PERFECT = "these rows are too easy to tell models apart: serve the baseline, or give a test set that is harder"


def doubts(table: Table, guides: Mapping[str, RunRecord]) -> tuple[Doubt, ...]:
    """Return the doubts about a table's trained arms, by their means.

    Args:
        table: with the trivial baselines and the teachers, where there are such.
        guides: the run that made each teacher, by the URI that its students name.
    """
    return (*_below_trivial(table), *_weak_teachers(table, guides))


def _below_trivial(table: Table) -> list[Doubt]:
    """Name the trained arms that are no better than a trivial baseline of the same training rows."""
    trivial = sorted((arm for arm in table.arms if arm.role == "trivial"), key=lambda arm: -_height(table, arm))
    beaten: dict[str, list[Arm]] = {}
    for arm in table.arms:
        same = next((one for one in trivial if {*one.trained_on} & {*arm.trained_on}), None)
        if arm.role != "trivial" and same and _height(table, arm) <= _height(table, same):
            beaten.setdefault(same.key, []).append(arm)
    what = f"trained on the same rows, by {table.split} {table.metric}"
    return [
        Doubt(
            f"No better than {_reached(best)}, {what}: {_several(weak)}.",
            PERFECT
            if _is_perfect(table, best)
            else "train with more epochs or another learning_rate, and check the labels",
            _runs(weak),
        )
        for best in trivial
        if (weak := beaten.get(best.key))
    ]


def _weak_teachers(table: Table, guides: Mapping[str, RunRecord]) -> list[Doubt]:
    """Name the teachers that are no better than a student of theirs that was trained without them.

    A distilled student counts where there is no such control: one that is better than its teacher, where the control
    is not, has gained by it.
    """
    found = []
    for teacher in (arm for arm in table.arms if arm.role == "teacher"):
        own = [uri for uri, guide in guides.items() if _made(teacher, guide)]
        taught = [arm for arm in table.arms if arm is not teacher and {*arm.teachers} & {*own}]
        rivals = [arm for arm in taught if arm.role == "student"] or taught
        best = max(rivals, key=lambda arm: _height(table, arm), default=None)
        if best is not None and _height(table, teacher) <= _height(table, best) and not _is_perfect(table, teacher):
            sentence = (
                f"The teacher has little to teach: {_reached(teacher)} is no better than its student {_reached(best)}, "
                f"by {table.split} {table.metric}."
            )
            instead = "train the teacher longer or with another learning rate, or take a stronger one"
            found.append(Doubt(sentence, instead, _runs(taught)))
    return found


def _is_perfect(table: Table, arm: Arm) -> bool:
    """Whether no arm can do better on these rows."""
    return arm.quality.mean == table.bounds[1 if table.higher_is_better else 0]


def _made(teacher: Arm, guide: RunRecord) -> bool:
    return guide.run_id in teacher.run_ids or guide.tags.get("kd.arm") == teacher.key


def _height(table: Table, arm: Arm) -> float:
    return arm.quality.mean if table.higher_is_better else -arm.quality.mean


def _several(arms: Sequence[Arm]) -> str:
    more = f" and {len(arms) - NAMED} more" if len(arms) > NAMED else ""
    return ", ".join(map(_reached, arms[:NAMED])) + more


def _reached(arm: Arm) -> str:
    return f"{arm.label} ({arm.quality.mean:.3f})"


def _runs(arms: Sequence[Arm]) -> tuple[str, ...]:
    return tuple(run_id for arm in arms for run_id in arm.run_ids)
