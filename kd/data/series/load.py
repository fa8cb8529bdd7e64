"""From what the user names to windows: train, validation and test, each in the order of patients and time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
from datasets import Dataset

from kd.base.console import did_you_mean, several, shown
from kd.base.types import SplitName, Splits, UserError
from kd.config import listed
from kd.config.series import SeriesOptions
from kd.data.series.builtin import about
from kd.data.series.events import joined
from kd.data.series.grid import Grid, common_step, gridded
from kd.data.series.parts import SPLITS, Stretch, parts
from kd.data.series.patients import OWN, of_patients, with_patients
from kd.data.series.read import chosen_items, recordings
from kd.data.series.recording import Recording
from kd.data.series.scenarios import Severity, inputs
from kd.data.series.units import difference_in_mgdl, in_mgdl
from kd.data.series.windows import Cut, Shape, cut

MOST_NOTES = 5
"""Notes on files that are shown; of many patients each may have one."""


def load(dataset: str, options: SeriesOptions, files: Mapping[SplitName, str], columns: Sequence[str] = ()) -> Splits:
    """Read series and cut windows from them.

    Args:
        dataset: A file, a folder, or builtin:NAME.
        options: Which patients, units and windows, and what is done to them.
        files: Files of splits, absolute or relative to the folder (of the file).
        columns: Columns that must be there, of those below or of the patients' file.

    Returns:
        Three splits with the columns `example_id` (`<patient>/<time>`), `group` (`<patient> <date>`), `patient`, `time`
        (of the last step of the history, in seconds since 1970 by the clock of the file), `step` (seconds), `unit` (of
        figures), `history` (float32, point by point the value and the covariates, `history x (1 + covariates)`),
        `target` (float32, `horizon`), `ahead` (float32, point by point the covariates of `known_ahead` in its order,
        `horizon x known_ahead`; empty without), `filled` (values of the history that were filled), and the columns of
        `patients_file` as text. Values are in mg/dL, or as they are where `units` is none.

    Raises:
        UserError: the series cannot be read, or give no windows; the text names file and line, or the patient.
    """
    read = _read(dataset, options, files)
    known = of_patients(options, read.items) or about(dataset)
    for name in columns:
        if name not in (*OWN, *known):
            there = [*known, *OWN]
            raise UserError(
                f"slice_columns: there is no column {name!r} beside the windows, only {several(there)}; "
                f"{did_you_mean(name, there, 'name one of these, or add it to patients_file')}"
            )
    tables, notes = {}, list(read.notes)
    for split in SPLITS:
        cuts = _cuts(read, options, split)
        table = with_patients(pa.concat_tables([one.table for one in cuts.values()]), known)
        unit = pa.array([options.units] * len(table), pa.string())  # figures in two units are of two test sets
        tables[split] = Dataset(table.append_column("unit", unit))
        notes.append(_about(split, cuts, "by the value before" if split != "train" else "on a line"))
    return Splits(tables["train"], tables["validation"], tables["test"], tuple(notes))


def load_inputs(dataset: str, options: SeriesOptions) -> Dataset:
    """Read the training windows of all patients of a data set without their targets, which may not be there.

    Under `models=left-out` the patient that is left out has none here either; `patients` and `train_days` choose
    nothing else, since these are the windows that others have, or that lie before those days.

    Returns:
        The columns of `load` without `target`.

    Raises:
        UserError: as `load`.
    """
    pooled = replace(options, patients="all", models="pooled", train_days=0.0)
    read = _read(dataset, pooled, {})
    if options.models == "left-out":
        out = listed(options.patients)
        read = replace(read, items=tuple(item for item in read.items if item not in out))
    cuts = _cuts(read, pooled, "train", targets=False)
    if not cuts:
        raise UserError(f"--dataset={dataset}: has no patient beside the one that is left out: give other data")
    table = pa.concat_tables([one.table for one in cuts.values()])
    return Dataset(with_patients(table, of_patients(pooled)))


def items(dataset: str, options: SeriesOptions, files: Mapping[SplitName, str]) -> tuple[str, ...]:
    """Return the patients that the options name, in the order of the data. Raises UserError as `load` does."""
    found = chosen_items(recordings(dataset, options, files), options)
    for item in found:
        if item == "all" or listed(item) != (item,):
            raise UserError(
                f"models={options.models}: a patient called {shown(item)} cannot be named by itself: rename it in the "
                "data, without a comma, or give models=pooled"
            )
    return found


@dataclass(frozen=True)
class _Read:
    """What was read, on grids."""

    items: tuple[str, ...]
    """Patients whose windows are cut."""
    tested: tuple[str, ...]
    """Those of them that validation and test, or under left-out the test alone, are of."""
    parts: Mapping[str, Mapping[SplitName, Stretch]]
    """By patient."""
    shape: Shape
    notes: tuple[str, ...]


def _read(dataset: str, options: SeriesOptions, files: Mapping[SplitName, str]) -> _Read:
    found = recordings(dataset, options, files)
    named = chosen_items(found, options)
    everybody = chosen_items(found, replace(options, patients="all"))
    if options.models == "left-out" and (len(named) != 1 or len(everybody) < 2):
        raise UserError(
            f"models=left-out: leaves out one patient of several at a time, and patients={options.patients} are "
            f"{len(named)} of {len(everybody)}: name one of {several(everybody)}"
        )
    used = everybody if options.models == "left-out" else named
    mine = _merged([in_mgdl(one, options.units) for one in found if one.item in used])
    _require_tests(mine)
    step = common_step(mine, options.step_minutes)
    wanted = listed(options.covariates)
    longest = int(options.max_gap_minutes * 60 / step + 1e-9)
    ahead = tuple(wanted.index(name) for name in listed(options.known_ahead))
    shape = Shape(options.history, options.horizon, longest, ahead)
    _require_covariates(mine, wanted)
    grids: dict[str, list[Grid]] = {item: [] for item in used}
    for one in mine:
        grid = gridded(one, step, wanted)
        if len(grid.values) < shape.window:
            raise UserError(
                f"{one.source}: patient {one.item} has {len(grid.values)} steps, fewer than one window of "
                f"{options.history} + {options.horizon}: give a longer series, or leave the patient out of patients="
            )
        grids[one.item].append(grid)
    divided = {item: parts(own, options.shares, shape.window) for item, own in grids.items()}
    notes = list(dict.fromkeys(note for one in mine for note in one.notes))
    notes += [note for own in grids.values() for grid in own for note in grid.notes]
    if len(notes) > MOST_NOTES:
        notes = [*notes[:MOST_NOTES], f"There are {len(notes) - MOST_NOTES} more such notes on files."]
    return _Read(used, named, divided, shape, tuple(notes))


def _merged(found: list[Recording]) -> list[Recording]:
    """Return one recording a patient and split; what is known of events in one file holds in the patient's next."""
    groups: dict[tuple[str, str], list[Recording]] = {}
    for one in found:
        if not len(one.values):
            raise UserError(f"{one.source}: patient {one.item} has no readings: give a file with some")
        groups.setdefault((one.item, one.split), []).append(one)
    merged = [_one_behind_the_other(sorted(group, key=lambda one: one.times[0])) for group in groups.values()]
    everything = []
    for one in merged:
        own = [other for other in merged if other.item == one.item]
        events = {name: joined([other.covariates[name] for other in own]) for name in one.covariates}
        everything.append(replace(one, covariates=events))
    return everything


def _one_behind_the_other(group: list[Recording]) -> Recording:
    for before, after in pairwise(group):
        if after.times[0] <= before.times[-1]:
            raise UserError(
                f"patient {after.item}: {after.source} begins at {after.times[0]}, before {before.source} ends: give "
                "each time once"
            )
    if len(group) == 1:
        return group[0]
    times, values = (np.concatenate([getattr(one, name) for one in group]) for name in ("times", "values"))
    events = {name: joined([one.covariates[name] for one in group]) for name in group[0].covariates}
    notes = tuple(note for one in group for note in one.notes)
    return replace(group[0], times=times, values=values, covariates=events, notes=notes)


def _require_tests(found: list[Recording]) -> None:
    """A patient without a test file would be tested on other terms than those who have one."""
    tested = {one.item for one in found if one.split == "test"}
    for one in found:
        if tested and one.item not in tested:
            raise UserError(
                f"{one.source}: patient {one.item} has no test file, unlike {several(sorted(tested), 5)}: give one, or "
                "leave the patient out of patients="
            )


def _require_covariates(found: list[Recording], wanted: Sequence[str]) -> None:
    for one in found:
        for name in wanted:
            if name not in one.covariates:
                known = list(one.covariates)
                raise UserError(
                    f"covariates: {one.source} has no {name!r}, only {several(known) or 'none'}; "
                    f"{did_you_mean(name, known, 'leave it out')}"
                )


def _cuts(read: _Read, options: SeriesOptions, split: SplitName, targets: bool = True) -> dict[str, Cut]:
    """Cut the windows of one split, by patient."""
    apart = options.models == "left-out"
    chosen = [item for item in read.items if not apart or (item in read.tested) == (split == "test")]
    scenario = options.train_scenario if split == "train" else options.test_scenario
    sd = difference_in_mgdl(options.noise_sd, options.units)
    severity = Severity(sd, options.missing_share, read.shape.longest, options.scenario_seed)
    found = {}
    for item in chosen:
        stretch = read.parts[item][split]
        if split == "train" and options.train_days:
            points = round(options.train_days * 86400 / stretch.grid.step)
            stretch = replace(stretch, first=max(stretch.first, stretch.last - points))
        shown = inputs(stretch.grid, scenario, severity)
        train = split == "train"
        one = cut(stretch, shown, read.shape, options.window_stride if train else 1, train, targets)
        if not one.table.num_rows:
            raise _no_windows(stretch, options, split, one.candidates)
        found[item] = one
    return found


def _no_windows(stretch: Stretch, options: SeriesOptions, split: SplitName, candidates: int) -> UserError:
    named = f"{stretch.grid.source}: patient {stretch.grid.item} has no window in {split}"
    lengths = f"history={options.history} + horizon={options.horizon}"
    if not candidates:
        return UserError(
            f"{named}: its part of the time is {max(0, stretch.last - stretch.first)} steps, and a window is "
            f"{lengths}: give a longer series, shorter windows, or another time_split or train_days"
        )
    return UserError(
        f"{named}: all {candidates} of {lengths} cross a gap longer than max_gap_minutes={options.max_gap_minutes:g}, "
        "or lack a target: give shorter windows, a greater max_gap_minutes, or leave the patient out of patients="
    )


def _about(split: str, cuts: Mapping[str, Cut], how: str) -> str:
    """Say how many windows there are, how many gaps took away, and how many values were filled."""
    windows, candidates = (
        sum(values) for values in zip(*((c.table.num_rows, c.candidates) for c in cuts.values()), strict=True)
    )
    filled = sum(one.filled for one in cuts.values())
    who = f"patient {next(iter(cuts))}" if len(cuts) == 1 else f"{len(cuts)} patients"
    dropped = (candidates - windows) / candidates
    return (
        f"{split.capitalize()}: {windows:,} windows of {who}; {dropped:.1%} of the windows were dropped at gaps, and "
        f"{filled:,} values of histories were filled {how}."
    )
