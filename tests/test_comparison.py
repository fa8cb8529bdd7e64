"""Tables claim only what paired seeds of the same test set show, against the arm's own control."""

from statistics import fmean

import pytest

from kd.comparison import AVERAGED, answer, compare
from kd.statistics import holm, minimum_detectable_difference, paired_difference
from kd.types import RunRecord, UserError

DIRECTIONS = {"classification": {"accuracy": True, "loss": False}, "forecasting": {"rmse": False}}
CONTROL = {0: 0.80, 1: 0.81, 2: 0.79}


def record(arm, seed, accuracy, role="student", control="", **more):
    tags = {
        "kd.role": role,
        "kd.task": "classification",
        "kd.dataset": "d",
        "kd.test_digest": "digest-1",
        "kd.seed": str(seed),
        "kd.arm": arm,
        "kd.test_scored": "true",
        **({"kd.control_arm": control} if control else {}),
        **more.pop("tags", {}),
    }
    metrics = {} if accuracy is None else {"test/accuracy": accuracy}
    return RunRecord(
        run_id=more.pop("run_id", f"{arm}-{seed}"),
        name=f"{arm} · seed {seed}",
        metrics={**metrics, **more.pop("metrics", {})},
        tags=tags,
    )


def runs(arm, values, **more):
    return [record(arm, seed, value, **more) for seed, value in values.items()]


def distilled(arm, values, control="control", **more):
    return runs(arm, values, role="distilled", control=control, **more)


def shifted(values, *gaps):
    return {seed: value + gap for (seed, value), gap in zip(values.items(), gaps, strict=True)}


def only(records, metric=""):
    (table,) = compare(records, DIRECTIONS, metric)
    return table


def arm_of(table, label):
    (arm,) = [arm for arm in table.arms if arm.label == label]
    return arm


BETTER = shifted(CONTROL, 0.05, 0.052, 0.048)
WORSE = shifted(CONTROL, -0.05, -0.052, -0.048)
MIXED = shifted(CONTROL, 0.02, -0.02, 0.01)


# Pairs


def test_differences_are_paired_by_seed_and_not_by_the_order_of_runs():
    records = runs("control", CONTROL) + list(reversed(distilled("arm", BETTER)))
    arm = arm_of(only(records), "arm")
    assert arm.difference == paired_difference(BETTER, CONTROL)
    assert arm.difference.mean == pytest.approx(0.05)


def test_only_seeds_that_both_have_are_compared():
    records = runs("control", {**CONTROL, 8: 0.1}) + distilled("arm", {**BETTER, 9: 0.99})
    arm = arm_of(only(records), "arm")
    assert arm.difference == paired_difference(BETTER, CONTROL)
    assert arm.quality.n == 4


def test_an_arm_is_held_against_its_own_control_and_no_other():
    records = [
        *runs("control", CONTROL),
        *runs("other control", shifted(CONTROL, -0.3, -0.3, -0.31)),
        *distilled("arm", BETTER),
    ]
    assert arm_of(only(records), "arm").difference.mean == pytest.approx(0.05)
    assert arm_of(only(records), "other control").difference is None


def test_without_its_control_an_arm_is_held_against_nothing():
    records = runs("other control", CONTROL) + distilled("arm", BETTER, control="never trained")
    arm = arm_of(only(records), "arm")
    assert (arm.difference, arm.verdict, arm.detectable) == (None, None, None)


@pytest.mark.parametrize("role", ["teacher", "student", "trivial"])
def test_who_has_no_control_gets_no_verdict(role):
    arm = arm_of(only(runs("one", CONTROL, role=role) + runs("control", CONTROL)), "one")
    assert (arm.difference, arm.verdict) == (None, None)


def test_of_repeated_runs_of_one_seed_the_newest_counts_and_the_seed_counts_once():
    again = record("arm", 1, 0.5, role="distilled", control="control", run_id="newest")
    records = runs("control", CONTROL) + distilled("arm", BETTER) + [again]
    arm = arm_of(only(records), "arm")
    assert arm.quality.n == 3
    assert arm.quality.mean == pytest.approx(fmean([BETTER[0], 0.5, BETTER[2]]))
    assert arm.run_ids == ("arm-0", "newest", "arm-2")


def test_a_repeated_control_counts_once_too():
    records = runs("control", CONTROL) + distilled("arm", BETTER) + [record("control", 0, 0.7)]
    assert arm_of(only(records), "arm").difference == paired_difference(BETTER, {**CONTROL, 0: 0.7})


# Verdicts


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (BETTER, "better"),
        (WORSE, "worse"),
        (MIXED, "no difference shown"),
        (CONTROL, "no difference shown"),
        ({0: 0.99, 1: 0.99}, "too few seeds"),
        ({7: 0.99, 8: 0.99, 9: 0.99}, "too few seeds"),
    ],
)
def test_verdicts_by_accuracy(values, words):
    assert arm_of(only(runs("control", CONTROL) + distilled("arm", values)), "arm").verdict == words


def test_a_falling_metric_turns_the_verdict():
    def with_loss(records, sign):
        return [
            RunRecord(r.run_id, r.name, {}, {**r.metrics, "test/loss": sign * r.metrics["test/accuracy"]}, r.tags)
            for r in records
        ]

    records = runs("control", CONTROL) + distilled("arm", BETTER)
    for sign, words in ((1.0, "worse"), (-1.0, "better")):
        table = only(with_loss(records, sign), "loss")
        assert (table.metric, table.higher_is_better) == ("loss", False)
        assert arm_of(table, "arm").verdict == words
    assert arm_of(only(with_loss(records, 1.0), "test/loss"), "arm").verdict == "worse"


def test_p_values_are_corrected_within_the_table_so_many_arms_do_not_make_a_winner():
    lucky = shifted(CONTROL, 0.05, 0.06, 0.03)
    alone = only(runs("control", CONTROL) + distilled("lucky", lucky))
    assert arm_of(alone, "lucky").verdict == "better"
    crowd = [run for i in range(9) for run in distilled(f"arm {i}", shifted(CONTROL, 0.02, -0.01 * i, 0.0))]
    among = only(runs("control", CONTROL) + distilled("lucky", lucky) + crowd)
    p = [arm.difference.p for arm in among.arms if arm.difference]
    assert min(p) < 0.05 < min(holm(p))
    assert arm_of(among, "lucky").verdict == "no difference shown"


def test_arms_with_too_few_seeds_do_not_cost_the_others_power():
    lucky = shifted(CONTROL, 0.05, 0.06, 0.03)
    crowd = [run for i in range(9) for run in distilled(f"arm {i}", {0: 0.7, 1: 0.7 + i / 100})]
    assert arm_of(only(runs("control", CONTROL) + distilled("lucky", lucky) + crowd), "lucky").verdict == "better"


def test_a_correction_stays_within_its_table():
    lucky = shifted(CONTROL, 0.05, 0.06, 0.03)
    elsewhere = {"tags": {"kd.test_digest": "digest-2"}}
    crowd = [run for i in range(9) for run in distilled(f"arm {i}", MIXED, **elsewhere)]
    records = [*runs("control", CONTROL), *distilled("lucky", lucky), *runs("control", CONTROL, **elsewhere), *crowd]
    first = compare(records, DIRECTIONS)[0]
    assert arm_of(first, "lucky").verdict == "better"


def test_where_nothing_was_shown_the_smallest_difference_that_would_have_been_is_told():
    arm = arm_of(only(runs("control", CONTROL) + distilled("arm", MIXED)), "arm")
    gaps = [MIXED[seed] - CONTROL[seed] for seed in CONTROL]
    spread = (sum((gap - fmean(gaps)) ** 2 for gap in gaps) / 2) ** 0.5
    assert arm.detectable == pytest.approx(minimum_detectable_difference(spread, 3))
    two = only(runs("control", CONTROL) + distilled("arm", MIXED) + distilled("second", MIXED))
    assert arm_of(two, "arm").detectable == pytest.approx(minimum_detectable_difference(spread, 3, alpha=0.05 / 2))
    assert arm_of(only(runs("control", CONTROL) + distilled("arm", BETTER)), "arm").detectable is None


# Tables


def test_two_test_sets_are_never_in_one_table():
    other = {"tags": {"kd.test_digest": "digest-2"}}
    records = [
        *runs("control", CONTROL),
        *distilled("arm", BETTER),
        *runs("control", shifted(CONTROL, -0.5, -0.5, -0.5), **other),
        *distilled("arm", WORSE, **other),
    ]
    tables = compare(records, DIRECTIONS)
    assert sorted(table.test_digest for table in tables) == ["digest-1", "digest-2"]
    assert {arm.quality.n for table in tables for arm in table.arms} == {3}
    verdicts = {table.test_digest: arm_of(table, "arm").verdict for table in tables}
    assert verdicts == {"digest-1": "better", "digest-2": "better"}  # 0.75 against 0.30
    only_arm_elsewhere = runs("control", CONTROL) + distilled("arm", BETTER, **other)
    assert all(arm.difference is None for table in compare(only_arm_elsewhere, DIRECTIONS) for arm in table.arms)


def test_two_tasks_on_the_same_rows_are_two_tables():
    other = record("arm", 0, None, metrics={"test/rmse": 2.0}, tags={"kd.task": "forecasting"})
    tables = compare([*runs("control", CONTROL), other], DIRECTIONS)
    assert [(table.task, table.metric) for table in tables] == [("classification", "accuracy"), ("forecasting", "rmse")]


def test_runs_that_never_scored_test_are_left_out():
    unscored = record("arm", 0, 0.9, tags={"kd.test_scored": "false"})
    assert compare([unscored], DIRECTIONS) == []
    assert compare([], DIRECTIONS) == []
    untagged = RunRecord("id", "a comparison", {}, {}, {"kd.stage": "compare"})
    assert [arm.label for arm in only([untagged, *runs("control", CONTROL)]).arms] == ["control"]


def test_runs_without_the_metric_are_left_out_and_not_counted_as_zero():
    lacking = record("arm", 3, None, role="distilled", control="control")
    never = record("never", 0, None, role="distilled", control="control")
    table = only([*runs("control", CONTROL), *distilled("arm", BETTER), lacking, never])
    assert arm_of(table, "arm").quality.n == 3
    assert [arm.label for arm in table.arms] == ["control", "arm"]


def test_an_unknown_metric_names_those_there_are():
    with pytest.raises(UserError, match=r"^metric='f2' is none of this task's: give one of accuracy, loss$"):
        compare(runs("control", CONTROL), DIRECTIONS, "f2")


def test_a_metric_that_no_run_has_is_said_and_not_an_empty_table():
    with pytest.raises(UserError, match=r"^metric='loss': none of the runs has it"):
        compare(runs("control", CONTROL), DIRECTIONS, "loss")


def test_arms_stand_in_the_order_of_roles():
    records = [
        *distilled("arm", BETTER),
        *runs("control", CONTROL),
        *runs("teacher", {0: 0.9}, role="teacher"),
        *runs("majority", {0: 0.3}, role="trivial"),
    ]
    assert [arm.label for arm in only(records).arms] == ["majority", "teacher", "control", "arm"]


def test_how_often_a_test_set_was_scored_counts_repeats_but_no_trivial_baselines():
    records = [*runs("control", CONTROL), record("control", 0, 0.7), *runs("majority", {0: 0.3}, role="trivial")]
    assert only(records).times_scored == 4


# Figures


def test_figures_are_means_over_the_runs_that_have_them_and_absent_where_none_has():
    latencies = {0: {"profile/latency_ms_p50": 2.0}, 1: {"profile/latency_ms_p50": 4.0}, 2: {}}
    records = [record("control", seed, CONTROL[seed], metrics=metrics) for seed, metrics in latencies.items()]
    figures = only(records).arms[0].figures
    assert figures == {"profile/latency_ms_p50": 3.0}


def test_a_measured_zero_is_shown_and_not_taken_for_absent():
    assert only([record("control", 0, 0.8, metrics={"calibration/ece": 0.0})]).arms[0].figures == {
        "calibration/ece": 0.0
    }


def test_every_figure_that_is_averaged_is_passed_on():
    metrics = {name: float(i) for i, name in enumerate(AVERAGED)}
    assert only([record("control", 0, 0.8, metrics=metrics)]).arms[0].figures == metrics


# Answers


def said(*records):
    return answer(only([run for part in records for run in part]))


def test_the_answer_yes_gives_gap_interval_and_seeds():
    text = said(runs("control", CONTROL), distilled("arm", BETTER))
    gap = paired_difference(BETTER, CONTROL)
    assert text.startswith("arm: yes, distillation helped: accuracy +0.050 against the same student without a teacher")
    assert f"95 % interval {gap.low:+.3f} to {gap.high:+.3f}, 3 seeds." in text


def test_the_answer_no_says_that_it_hurt():
    text = said(runs("control", CONTROL), distilled("arm", WORSE))
    assert text.startswith("arm: no, distillation hurt: accuracy -0.050")


def test_no_gain_is_said_plainly_with_what_could_go_unseen():
    table = only(runs("control", CONTROL) + distilled("arm", MIXED))
    text = answer(table)
    assert text.startswith("arm: no gain shown: accuracy +0.003")
    assert f"a true difference under {table.arms[-1].detectable:.3f} could go unseen" in text


@pytest.mark.parametrize(("seeds", "counted"), [((0,), "1 seed;"), ((0, 1), "2 seeds;")])
def test_too_few_seeds_claim_nothing_however_large_the_gap(seeds, counted):
    text = said(runs("control", CONTROL), distilled("arm", {seed: 0.99 + seed / 1000 for seed in seeds}))
    assert text.startswith("arm: too few seeds to say: ")
    assert f"{counted} a claim needs at least three" in text
    assert "helped" not in text


@pytest.mark.parametrize("control", [{}, {7: 0.8, 8: 0.8, 9: 0.8}])
def test_without_a_control_on_the_same_seeds_nothing_is_claimed(control):
    text = said(runs("control", control), distilled("arm", BETTER))
    assert text.startswith(
        "arm: cannot be said: its control, the same student without a teacher, is not among these runs"
    )


def test_every_distilled_arm_gets_its_sentence_and_no_other_arm():
    text = said(runs("control", CONTROL), distilled("one", BETTER), distilled("two", MIXED))
    assert [line.split(":")[0] for line in text.splitlines()] == ["one", "two"]
    assert answer(only(runs("control", CONTROL))) == "No distilled student has been trained on this data yet."


def test_arms_of_one_name_are_told_apart_by_their_hash_else_two_equal_rows_contradict_each_other():
    table = only(runs("control", CONTROL) + runs("other", CONTROL))
    labels = [arm.label for arm in table.arms]
    assert len(set(labels)) == len(labels)
