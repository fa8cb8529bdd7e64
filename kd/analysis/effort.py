"""Whether arms were trained as long as what they are compared with. Pure."""

from collections.abc import Mapping

import numpy as np

from kd.analysis.comparison import Table


def uneven_steps(table: Table, steps: Mapping[str, int]) -> list[str]:
    """Return which arms were trained for over a tenth more or fewer updates than what they are compared with.

    Args:
        table: arms and their pairs.
        steps: weight updates by run id, where known.
    """
    found = []
    for arm in table.arms:
        known = [pair for pair in arm.pairs if pair.run_id in steps and pair.against in steps]
        if known:
            ours, theirs = (float(np.mean([steps[run_id] for run_id in ids])) for ids in
                            ([pair.run_id for pair in known], [pair.against for pair in known]))  # fmt: skip
            if abs(ours - theirs) > 0.1 * theirs:
                found.append(f"{arm.label} had {ours:,.0f} weight updates, {table.against} {theirs:,.0f}")
    return found
