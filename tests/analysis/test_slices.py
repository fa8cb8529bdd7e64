"""Slices are exactly the examples they name, big enough to speak of, and the worst comes first."""

import itertools
from functools import partial

import numpy as np
import pandas as pd
import pytest

from kd.analysis.slices import MIN_EXAMPLES, MOST_VALUES, fairness, slice_differences, slices_of
from kd.analysis.statistics import paired_difference


def frame(**columns):
    return pd.DataFrame(columns)


def sizes(values):
    return {name: len(rows) for name, rows in slices_of(frame(c=values), "c").items()}


def differences(pairs, columns, rises):
    """What slices differ by in accuracy."""
    scores = [(seed, *(partial(accuracy, one["right"].to_numpy()) for one in both)) for seed, *both in pairs]
    return slice_differences(pairs[0][1], columns, scores, rises)


def accuracy(right, rows):
    return float(right[rows].mean())


# Which examples


def test_a_slice_holds_exactly_the_rows_of_its_value():
    for seed in range(20):
        draw = np.random.default_rng(seed)
        values = draw.choice(["a", "b", "it's", 'a "b" | c', ""], 300, p=[0.4, 0.2, 0.2, 0.15, 0.05])
        found = slices_of(frame(c=values), "c")
        counts = pd.Series(values).value_counts()
        assert set(found) == {value for value, count in counts.items() if count >= MIN_EXAMPLES}
        for value, rows in found.items():
            assert rows.tolist() == [place for place, own in enumerate(values) if own == value]


def test_positions_are_counted_from_the_top_whatever_the_index_of_the_rows():
    predictions = frame(c=["a"] * 40 + ["b"] * 40)
    predictions.index = [7] * 80
    assert slices_of(predictions, "c")["b"].tolist() == list(range(40, 80))
    numbers = frame(c=[5, 1] * 40 + [2, 3] * 30)
    numbers.index = reversed(range(140))
    assert slices_of(numbers, "c")["1"].tolist() == list(range(1, 80, 2))


def test_a_slice_of_fewer_than_30_examples_says_little_and_is_left_out():
    assert sizes(["a"] * 30 + ["b"] * 29) == {"a": 30}
    assert sizes(["a"] * 29 + ["b"] * 29) == {}
    assert sizes(list(range(4 * (MIN_EXAMPLES - 1)))) == {}


@pytest.mark.parametrize("values", [["a"] * 100, [3.5] * 100, [True] * 100, [None] * 100, [np.nan] * 100])
def test_a_column_of_one_value_has_no_slices_else_the_whole_test_set_is_one(values):
    assert sizes(values) == {}


def test_truth_values_and_few_numbers_are_sliced_by_value():
    assert sizes([True, False] * 40) == {"False": 40, "True": 40}
    assert sizes([0, 1, 2, 3] * 30) == {"0": 30, "1": 30, "2": 30, "3": 30}
    assert sizes(pd.Series(["x", "y"] * 40, dtype="category")) == {"x": 40, "y": 40}


def test_numbers_that_are_text_stay_text():
    assert sizes([str(place % 6) for place in range(240)]) == dict.fromkeys("012345", 40)


def test_many_numbers_become_quartiles_of_near_equal_size_that_cover_every_row_once():
    for seed in range(20):
        draw = np.random.default_rng(seed)
        values = draw.permutation(int(draw.integers(130, 400))) * draw.choice([1, 0.37, 1e-9, 1e6])
        found = slices_of(frame(c=values), "c")
        assert len(found) == 4
        assert sorted(np.concatenate(list(found.values()))) == list(range(len(values)))
        counts = [len(rows) for rows in found.values()]
        assert max(counts) - min(counts) <= 1
        ordered = sorted(found.values(), key=lambda rows: values[rows].min())
        for low, high in itertools.pairwise(ordered):
            assert values[low].max() < values[high].min()


def test_a_quartile_is_named_by_the_numbers_in_it_so_that_no_number_is_in_two():
    found = slices_of(frame(c=list(range(200))), "c")
    assert list(found) == ["0 to 49", "100 to 149", "150 to 199", "50 to 99"]
    assert found["50 to 99"].tolist() == list(range(50, 100))


@pytest.mark.parametrize("start", [0, 1_700_000_000, -1_234_567])
def test_large_numbers_close_together_keep_their_quartiles_apart(start):
    assert sorted(sizes(start + np.arange(400)).values()) == [100] * 4


def test_equal_numbers_are_never_torn_apart():
    assert sizes([0] * 300 + list(range(1, 101))) == {"0": 300, "1 to 100": 100}


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_missing_and_infinite_numbers_are_in_no_slice_and_stop_nothing(missing):
    found = slices_of(frame(c=[missing] * 40 + list(range(200))), "c")
    assert sorted(np.concatenate(list(found.values()))) == list(range(40, 240))


@pytest.mark.parametrize("dtype", ["Int64", "Float64"])
def test_numbers_that_may_be_missing_are_sliced_as_others(dtype):
    values = pd.Series([*range(200), *[None] * 40], dtype=dtype)
    assert sorted(sizes(values).values()) == [50] * 4


def test_a_missing_word_is_no_value_of_its_own():
    assert sizes(["a"] * 40 + [None] * 40 + ["b"] * 40) == {"a": 40, "b": 40}


def test_of_very_many_values_the_most_frequent_are_kept():
    values = [f"v{place:03}" for place in range(MOST_VALUES + 5) for _ in range(30 + (place >= 5))]
    assert sorted(sizes(values)) == [f"v{place:03}" for place in range(5, MOST_VALUES + 5)]


# Differences


def predictions(right, **columns):
    return frame(right=right, **columns)


GENRE = ["book"] * 40 + ["film"] * 60


def pair(seed, book, film, other_book=0.5, other_film=0.5):
    """Predictions of arm and other with these accuracies on two slices."""

    def made(on_books, on_films):
        books, films = int(40 * on_books), int(60 * on_films)
        right = [1] * books + [0] * (40 - books) + [1] * films + [0] * (60 - films)
        return predictions(right, genre=GENRE)

    return seed, made(book, film), made(other_book, other_film)


def test_a_slices_figures_are_those_of_its_rows_alone_paired_by_seed():
    pairs = [pair(0, 0.75, 0.5), pair(1, 0.7, 0.45), pair(5, 0.8, 0.4)]
    film, book = differences(pairs, ["genre"], True)
    assert (book.column, book.value, book.examples) == ("genre", "book", 40)
    assert (book.arm, book.against) == (pytest.approx(0.75), pytest.approx(0.5))
    assert book.difference == paired_difference({0: 0.75, 1: 0.7, 5: 0.8}, {0: 0.5, 1: 0.5, 5: 0.5})
    assert (film.value, film.examples, film.arm) == ("film", 60, pytest.approx(0.45))


def test_several_pairs_of_one_seed_count_as_one_seed():
    found = differences([pair(0, 0.75, 0.5), pair(0, 0.25, 0.5), pair(1, 0.5, 0.5)], ["genre"], True)
    book = next(one for one in found if one.value == "book")
    assert (book.difference.n, book.difference.mean) == (2, pytest.approx(0.0))


@pytest.mark.parametrize(("rises", "first"), [(True, "film"), (False, "book")])
def test_the_worst_slice_for_the_arm_comes_first_in_the_metrics_direction(rises, first):
    pairs = [pair(seed, 0.75, 0.25) for seed in range(3)]
    found = differences(pairs, ["genre"], rises)
    assert next(one.value for one in found) == first


def test_the_worst_is_first_over_all_columns_and_ties_stand_in_a_fixed_order():
    draw = np.random.default_rng(0)
    columns = {name: draw.choice(list("uvwxyz"), 600) for name in ("b", "a")}
    pairs = [(seed, *(predictions(draw.integers(0, 2, 600), **columns) for _ in range(2))) for seed in range(3)]
    for rises in (True, False):
        sign = 1 if rises else -1
        found = differences(pairs, ["b", "a"], rises)
        assert len(found) == 12
        assert [sign * one.difference.mean for one in found] == sorted(sign * one.difference.mean for one in found)
    same = [(seed, pairs[0][1], pairs[0][1]) for seed in range(3)]
    named = [(one.column, one.value) for one in differences(same, ["b", "a"], True)]
    assert named == sorted(named)


def test_a_column_that_predictions_do_not_have_is_passed_over():
    found = differences([pair(0, 0.5, 0.5)], ["absent", "genre"], True)
    assert {one.column for one in found} == {"genre"}
    assert differences([pair(0, 0.5, 0.5)], ["absent"], True) == []


def test_slices_are_those_of_the_arm_where_the_other_lacks_the_column():
    seed, arm, other = pair(0, 0.75, 0.5)
    found = differences([(seed, arm, other.drop(columns="genre"))], ["genre"], True)
    assert {one.value: one.against for one in found} == {"book": 0.5, "film": 0.5}


# Fairness


def served(values, *runs, higher=True):
    """Compare groups by the mean of a number a row; `runs` give it by group."""
    tables = [np.array([run[value] for value in values], dtype=float) for run in runs]
    return fairness(frame(c=values), "c", [partial(accuracy, one) for one in tables], higher)


SEXES = ["f"] * 40 + ["m"] * 60


@pytest.mark.parametrize(("higher", "worst", "best"), [(True, "f", "m"), (False, "m", "f")])
def test_the_ratio_is_at_least_1_and_the_worst_group_is_so_in_the_metrics_direction(higher, worst, best):
    found = served(SEXES, {"f": 10, "m": 15}, higher=higher)
    assert (found.worst, found.best, found.ratio) == (worst, best, 1.5)
    assert {found.worst_value, found.best_value} == {10, 15}
    assert (found.groups, found.left_out) == (2, 0)


def test_groups_are_compared_by_their_means_over_runs_so_that_one_runs_chance_is_not_taken_for_unfairness():
    found = served(SEXES, {"f": 10, "m": 20}, {"f": 20, "m": 10}, higher=False)
    assert found.ratio == 1


def test_a_group_of_few_examples_is_not_compared_but_counted():
    values = [*SEXES, *["x"] * 29]
    found = served(values, {"f": 10, "m": 15, "x": 1000}, higher=False)
    assert (found.worst, found.groups, found.left_out) == ("m", 2, 1)


@pytest.mark.parametrize("values", [["f"] * 50, ["f"] * 50 + ["m"] * 20])
def test_fewer_than_two_groups_that_can_be_compared_have_no_ratio_rather_than_one_of_1(values):
    assert served(values, {"f": 10, "m": 15}) is None


@pytest.mark.parametrize("least", [0.0, -0.3])
def test_a_value_that_is_not_above_0_has_no_ratio_but_is_shown(least):
    found = served(SEXES, {"f": least, "m": 15})
    assert found.ratio is None
    assert found.worst_value == least


def test_a_group_whose_metric_is_not_finite_is_not_the_best():
    values = [*SEXES, *["x"] * 40]
    found = served(values, {"f": 10, "m": 15, "x": np.nan})
    assert (found.worst, found.best, found.left_out) == ("f", "m", 1)
