"""How the finalists and the winner are shown: what was measured, and how far the first estimate was off."""

from types import SimpleNamespace

import pytest

from kd.report.tables import markdown_table
from kd.search.result import Finalist, finalist_cells, winner_lines
from kd.search.retries import Attempt


def finalist(number, first, values, fits=True, **metrics):
    trial = Attempt(number, str(number), "complete", "", {"epochs": number}, first)
    anew = tuple(Attempt(place, str(place), "complete", values=(value,)) for place, value in enumerate(values))
    record = SimpleNamespace(metrics=metrics, tags={"kd.fits_size_mib": str(fits).lower()})
    return Finalist("distill", trial, anew, record)


def test_finalists_are_shown_with_what_was_measured_and_blanks_where_nothing_was():
    winner = finalist(3, (0.9,), (0.8, 0.7), **{"profile/latency_ms_p95": 12.34})
    other = finalist(5, (0.95,), (0.9, 0.9), fits=False)
    heads, _, first, second, _ = markdown_table(finalist_cells({"accuracy": True}, [other, winner], winner))
    assert "accuracy then" in heads
    assert first.startswith("| 5 (over budget) | 0.95 | 0.9 (0.9, 0.9) |  |  |  |")
    assert second.startswith("| 3 (winner) | 0.9 | 0.75 (0.8, 0.7) | 12.3 |")


def test_a_finalists_latency_from_a_busy_machine_is_marked():
    busy = finalist(3, (0.9,), (0.8,), **{"profile/latency_ms_p95": 12.34, "model/size_mib": 5.0})
    busy.record.tags["kd.quiet"] = "false"
    assert finalist_cells({"accuracy": True}, [busy], None)[1][3:6] == ["~12.3", "", "5.0"]


@pytest.mark.parametrize(
    ("higher", "first", "values", "said"),
    [
        (True, 0.9, (0.8, 0.6), "was too good by 0.2"),
        (True, 0.7, (0.8, 0.8), "was kept"),
        (False, 0.5, (0.7, 0.7), "was too good by 0.2"),
        (False, 0.7, (0.5, 0.5), "was kept"),
    ],
)
def test_how_much_too_good_the_search_made_its_winner_look_is_said_in_either_direction(higher, first, values, said):
    winner = finalist(3, (first,), values)
    search = SimpleNamespace(ranked=lambda: [winner.trial])
    lines = winner_lines({"metric": higher}, search, winner)
    assert f"Its first estimate {said}: " in lines[1]
    assert len(lines) == 2


def test_a_trial_that_only_looked_best_is_named():
    winner, looked = finalist(3, (0.8,), (0.8, 0.8)), finalist(7, (0.9,), (0.5, 0.5))
    search = SimpleNamespace(ranked=lambda: [looked.trial, winner.trial])
    assert winner_lines({"accuracy": True}, search, winner)[-1].startswith("The best of the search, trial 7, at 0.9,")
