"""How the end of a search is shown: the finalists in a table, and how far the first estimate was off."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from rich.table import Table

from kd.search.optuna_study import Study
from kd.search.progress import in_words

if TYPE_CHECKING:
    from kd.search.result import Finalist

COSTS = {"p95 ms": "profile/latency_ms_p95", "RAM MiB": "profile/ram_peak_mib", "disk MiB": "model/size_mib"}


def finalist_tables(
    directions: Mapping[str, bool], field: Sequence["Finalist"], winner: "Finalist | None"
) -> tuple[Table, str]:
    """Return the finalists of an arm as a table for the terminal and in Markdown, in the search's order."""
    names = list(directions)
    heads = ["trial", *(f"{name} then" for name in names), f"{names[0]} anew", *COSTS, "parameters"]
    table = Table(*heads, title=f"{field[0].arm}: the best trials, retrained on fresh seeds", title_justify="left")
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for one in field:
        mark = " (winner)" if one is winner else "" if one.fits else " (over budget)"
        anew = f"{one.mean:.4g} ({', '.join(f'{value:.4g}' for value in one.values)})"
        then = [f"{value:.4g}" for value in one.trial.values]
        costs = [f"{one.record.metrics[key]:.1f}" if key in one.record.metrics else "" for key in COSTS.values()]
        cells = [f"{one.trial.attempt.number}{mark}", *then, anew, *costs, in_words(one.trial.attempt.params)]
        table.add_row(*cells)
        lines.append(f"| {' | '.join(cells)} |")
    return table, "\n".join(lines)


def winner_lines(directions: Mapping[str, bool], search: Study, winner: "Finalist") -> list[str]:
    """Say who won, and how far the search's own estimate was from what fresh seeds gave."""
    name, higher = next(iter(directions.items()))
    first, mean = winner.trial.values[0], fmean(winner.values)
    excess = first - mean if higher else mean - first
    how = f"was too good by {excess:.3g}" if excess > 0 else "was kept"
    top = search.ranked()[0]
    lines = [
        f"Winner of {winner.arm}: trial {winner.trial.attempt.number} ({in_words(winner.trial.attempt.params)}), "
        f"by its mean on validation over {len(winner.values)} fresh seeds",
        f"Its first estimate {how}: {name} {first:.4g} in the search, {mean:.4g} on fresh seeds",
    ]
    if top.values[0] != first:
        did = f"trial {top.attempt.number}, at {top.values[0]:.4g}"
        lines.append(
            f"The best of the search, {did}, did worse on fresh seeds, or keeps no budget, or was not retrained"
        )
    return lines
