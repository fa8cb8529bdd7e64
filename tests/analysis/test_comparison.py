"""Tables claim only what paired seeds of the same test set show, against the arm's own control."""

import math
import random
from dataclasses import replace
from statistics import fmean

import pytest

from kd.analysis.comparison import AVERAGED, SAME_STUDENT, compare, pareto_front, uneven_steps
from kd.analysis.statistics import Spread, holm, minimum_detectable_difference, paired_difference
from kd.base.types import RunRecord, UserError
from kd.config import CompareConfig
from kd.report.tables import answer

DIRECTIONS = {"classification": {"accuracy": True, "loss": False}, "forecasting": {"rmse": False}}
CONTROL = {0: 0.80, 1: 0.81, 2: 0.79}


def record(arm, seed, accuracy, role="student", control="", **more):
    tags = {
        "kd.role": role,
        "kd.task": "classification",
        "kd.dataset": "d",
        "kd.test_digest": "digest-1",
        "kd.validation_digest": "rows-1",
        "kd.seed": str(seed),
        "kd.arm": arm,
        "kd.test_scored": "true",
        **({"kd.control_arm": control} if control else {}),
        **more.pop("tags", {}),
    }
    metrics = {} if accuracy is None else {"test/accuracy": accuracy}
    return RunRecord(
        run_id=more.pop("run_id", f"{arm}-{seed}"),
        name=f"{more.pop('label', arm)} · seed {seed}",
        params=more.pop("params", {}),
        metrics={**metrics, **more.pop("metrics", {})},
        tags={name: value for name, value in tags.items() if value is not None},
        started=more.pop("started", 0),
    )


def runs(arm, values, **more):
    return [record(arm, seed, value, **more) for seed, value in values.items()]


def distilled(arm, values, control="control", **more):
    return runs(arm, values, role="distilled", control=control, **more)


def shifted(values, *gaps):
    return {seed: value + gap for (seed, value), gap in zip(values.items(), gaps, strict=True)}


def tables_of(records, **asked):
    return compare(records, DIRECTIONS, CompareConfig(**asked))[0]


def notes_of(records, **asked):
    return compare(records, DIRECTIONS, CompareConfig(**asked))[1]


def only(records, metric="", **asked):
    (table,) = tables_of(records, metric=metric, **asked)
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


@pytest.mark.parametrize("others", [runs("other control", CONTROL), runs("control", {7: 0.1, 8: 0.2, 9: 0.3})])
def test_without_its_control_on_a_common_seed_an_arm_is_held_against_nothing(others):
    arm = arm_of(only(others + distilled("arm", BETTER)), "arm")
    assert (arm.difference, arm.verdict, arm.detectable, arm.adjusted_p, arm.pairs) == (None, None, None, None, ())


def test_a_control_that_lacks_some_seeds_is_compared_on_those_it_has():
    few = {seed: CONTROL[seed] for seed in (0, 2)}
    arm = arm_of(only(runs("control", few) + distilled("arm", BETTER)), "arm")
    assert arm.difference == replace(paired_difference(BETTER, few), low=None, high=None)
    assert [(pair.seed, pair.run_id, pair.against) for pair in arm.pairs] == [
        (0, "arm-0", "control-0"),
        (2, "arm-2", "control-2"),
    ]
    assert (arm.quality.n, arm.verdict) == (3, "too few seeds")


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


def test_the_newest_is_told_by_its_start_and_not_by_the_order_in_which_runs_are_named():
    old = record("arm", 0, 0.1, role="distilled", control="control", run_id="old", started=1)
    new = record("arm", 0, 0.9, role="distilled", control="control", run_id="new", started=2)
    for records in ([old, new], [new, old]):
        assert only(records).arms[0].run_ids == ("new",)
        assert notes_of(records) == ["runs left out because there are newer ones of the same arm and seed: 1"]


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
    first = tables_of(records)[0]
    assert arm_of(first, "lucky").verdict == "better"


def test_where_nothing_was_shown_the_smallest_difference_that_would_have_been_is_told():
    arm = arm_of(only(runs("control", CONTROL) + distilled("arm", MIXED)), "arm")
    gaps = [MIXED[seed] - CONTROL[seed] for seed in CONTROL]
    spread = (sum((gap - fmean(gaps)) ** 2 for gap in gaps) / 2) ** 0.5
    se = spread / 3**0.5
    assert arm.detectable == pytest.approx(minimum_detectable_difference(se, Spread(2)))
    two = only(runs("control", CONTROL) + distilled("arm", MIXED) + distilled("second", MIXED))
    assert arm_of(two, "arm").detectable == pytest.approx(minimum_detectable_difference(se, Spread(2), alpha=0.05 / 2))
    assert arm_of(only(runs("control", CONTROL) + distilled("arm", BETTER)), "arm").detectable is None


def test_differences_without_spread_do_not_say_that_the_least_gain_would_have_been_seen():
    steady = shifted(CONTROL, 0.05, 0.05, 0.05)  # p is 0.25, whatever the gap
    arm = arm_of(only(runs("control", CONTROL) + distilled("arm", steady)), "arm")
    assert (arm.verdict, arm.detectable) == ("no difference shown", None)
    assert "could go unseen" not in said(runs("control", CONTROL), distilled("arm", steady))


def test_the_p_value_that_the_verdict_rests_on_is_kept():
    table = only(runs("control", CONTROL) + distilled("one", BETTER) + distilled("two", MIXED))
    one, two = arm_of(table, "one"), arm_of(table, "two")
    assert [one.adjusted_p, two.adjusted_p] == holm([one.difference.p, two.difference.p])
    assert arm_of(table, "control").adjusted_p is None
    few = only(runs("control", CONTROL) + distilled("one", {0: 0.9, 1: 0.95}))
    assert arm_of(few, "one").adjusted_p is None


# Tables


def test_two_test_sets_are_never_in_one_table():
    other = {"tags": {"kd.test_digest": "digest-2"}}
    records = [
        *runs("control", CONTROL),
        *distilled("arm", BETTER),
        *runs("control", shifted(CONTROL, -0.5, -0.5, -0.5), **other),
        *distilled("arm", WORSE, **other),
    ]
    tables = tables_of(records)
    assert sorted(table.digest for table in tables) == ["digest-1", "digest-2"]
    assert {arm.quality.n for table in tables for arm in table.arms} == {3}
    verdicts = {table.digest: arm_of(table, "arm").verdict for table in tables}
    assert verdicts == {"digest-1": "better", "digest-2": "better"}  # 0.75 against 0.30
    only_arm_elsewhere = runs("control", CONTROL) + distilled("arm", BETTER, **other)
    assert all(arm.difference is None for table in tables_of(only_arm_elsewhere) for arm in table.arms)


def test_two_tasks_on_the_same_rows_are_two_tables():
    other = record("arm", 0, None, metrics={"test/rmse": 2.0}, tags={"kd.task": "forecasting"})
    tables = tables_of([*runs("control", CONTROL), other])
    assert [(table.task, table.metric) for table in tables] == [("classification", "accuracy"), ("forecasting", "rmse")]


def test_runs_that_never_scored_test_are_left_out():
    unscored = record("arm", 0, 0.9, tags={"kd.test_scored": "false"})
    assert compare([unscored], DIRECTIONS) == ([], [])
    assert compare([], DIRECTIONS) == ([], [])
    untagged = RunRecord("id", "a comparison", {}, {}, {"kd.stage": "compare"})
    assert [arm.label for arm in only([untagged, *runs("control", CONTROL)]).arms] == ["control"]


def test_runs_without_the_metric_are_left_out_and_not_counted_as_zero():
    lacking = record("arm", 3, None, role="distilled", control="control")
    never = record("never", 0, None, role="distilled", control="control")
    table = only([*runs("control", CONTROL), *distilled("arm", BETTER), lacking, never])
    assert arm_of(table, "arm").quality.n == 3
    assert [arm.label for arm in table.arms] == ["control", "arm"]


def test_rows_that_are_unknown_are_in_no_table_else_two_test_sets_share_one():
    unknown = [record("lost", seed, 0.9, tags={"kd.test_digest": digest}) for seed, digest in ((0, None), (1, ""))]
    assert tables_of(unknown) == []
    records = [*runs("control", CONTROL), *unknown]
    assert [arm.label for arm in only(records).arms] == ["control"]
    assert notes_of(records) == ["runs left out because they have no tag kd.test_digest: 2"]


def test_a_run_without_a_seed_is_not_taken_for_one_of_seed_0():
    records = [*runs("control", CONTROL), record("arm", 0, 0.9, "distilled", "control", tags={"kd.seed": None})]
    assert [arm.label for arm in only(records).arms] == ["control"]
    assert notes_of(records) == ["runs left out because they have no tag kd.seed: 1"]


def test_a_task_that_is_not_known_here_is_left_out_and_said():
    records = [*runs("control", CONTROL), record("arm", 0, 0.9, tags={"kd.task": "translation"})]
    assert [table.task for table in tables_of(records)] == ["classification"]
    assert notes_of(records) == ["runs left out because there is no task translation here: 1"]


def test_a_metric_that_one_task_has_leaves_the_other_out_and_says_so():
    other = record("arm", 0, None, metrics={"test/rmse": 2.0}, tags={"kd.task": "forecasting"})
    records = [*runs("control", CONTROL), other]
    assert [table.metric for table in tables_of(records, metric="accuracy")] == ["accuracy"]
    assert notes_of(records, metric="accuracy") == [
        "1 runs of task forecasting were left out: it has no metric 'accuracy'"
    ]
    assert [table.task for table in tables_of(records, metric="test/rmse")] == ["forecasting"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_is_left_out_by_name_and_neither_spreads_nor_stops_the_others(value):
    broken = record("arm", 3, value, role="distilled", control="control", run_id="diverged")
    records = [*runs("control", CONTROL), *distilled("arm", BETTER), broken]
    assert arm_of(only(records), "arm").difference == paired_difference(BETTER, CONTROL)
    assert notes_of(records) == [f"run diverged (arm · seed 3) was left out: its test/accuracy is {value}"]
    with pytest.raises(UserError, match="run diverged"):
        only([broken])


def test_validation_metrics_are_compared_on_the_same_validation_rows_even_of_runs_that_never_scored_test():
    def validated(rows, value, **tags):
        return [
            record(
                f"of {rows}", seed, None, metrics={"val/accuracy": value}, tags={"kd.validation_digest": rows, **tags}
            )
            for seed in range(2)
        ]

    unscored = {"kd.test_scored": None, "kd.test_digest": None}
    records = [*validated("rows-1", 0.6), *validated("rows-2", 0.9, **unscored), *validated(None, 0.1)]
    tables = tables_of(records, metric="val/accuracy")
    assert [(table.split, table.digest, table.metric) for table in tables] == [
        ("val", "rows-1", "accuracy"),
        ("val", "rows-2", "accuracy"),
    ]
    assert [arm.quality.mean for table in tables for arm in table.arms] == pytest.approx([0.6, 0.9])
    assert notes_of(records, metric="val/accuracy") == [
        "runs left out because they have no tag kd.validation_digest: 2"
    ]


def test_a_validation_figure_never_stands_in_a_table_of_test_figures():
    records = [record("control", seed, 0.5, metrics={"val/accuracy": 0.9}) for seed in range(3)]
    assert only(records).arms[0].quality.mean == pytest.approx(0.5)
    assert only(records, "test/accuracy").arms[0].quality.mean == pytest.approx(0.5)
    assert only(records, "val/accuracy").arms[0].quality.mean == pytest.approx(0.9)


def test_an_unknown_metric_names_those_there_are():
    with pytest.raises(
        UserError, match=r"^metric='f2': none of the runs has it; give one of accuracy, loss;"
    ) as caught:
        only(runs("control", CONTROL), "f2")
    assert "\n" not in str(caught.value)


def test_a_metric_that_no_run_has_is_said_and_not_an_empty_table():
    with pytest.raises(UserError, match=r"^metric='loss': none of the runs has it"):
        only(runs("control", CONTROL), "loss")


def test_arms_stand_in_the_order_of_roles():
    records = [
        *distilled("arm", BETTER),
        *runs("control", CONTROL),
        *runs("teacher", {0: 0.9}, role="teacher"),
        *runs("majority", {0: 0.3}, role="trivial"),
    ]
    assert [arm.label for arm in only(records).arms] == ["majority", "teacher", "control", "arm"]


def test_how_often_a_test_set_was_scored_is_not_guessed_from_the_runs_at_hand():
    assert only(runs("control", CONTROL)).times_scored is None


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
    metrics = {f"{kind}figure": float(i) for i, kind in enumerate(AVERAGED)}
    assert only([record("control", 0, 0.8, metrics=metrics)]).arms[0].figures == metrics


def timed(arm, seed, p50, quiet, **figures):
    metrics = {"profile/latency_ms_p50": p50, **figures}
    return record(arm, seed, 0.8, metrics=metrics, tags={"kd.quiet": quiet})


def test_latency_from_a_busy_machine_is_not_averaged_with_that_from_a_quiet_one_and_other_figures_are():
    size = {"model/size_mib": 10.0}
    found = only([timed("control", 0, 31.0, "false", **size), timed("control", 1, 7.0, "true", **size)]).arms[0]
    assert found.figures == {"profile/latency_ms_p50": 7.0, "model/size_mib": 10.0}
    assert found.busy == ()


def test_latency_that_was_never_measured_on_a_quiet_machine_is_shown_and_said_to_be_doubtful():
    found = only([timed("control", 0, 31.0, "false"), timed("control", 1, 29.0, "false")]).arms[0]
    assert found.figures == {"profile/latency_ms_p50": 30.0}
    assert found.busy == ("runs:/control-0/model", "runs:/control-1/model")
    assert only([timed("control", 0, 31.0, None)]).arms[0].busy == ()  # an older run does not say


# Answers


def said(*records):
    return answer(only([run for part in records for run in part]))


def test_the_answer_yes_gives_gap_interval_and_seeds():
    text = said(runs("control", CONTROL), distilled("arm", BETTER))
    gap = paired_difference(BETTER, CONTROL)
    assert text.startswith(
        "arm: yes, distillation helped: test accuracy +0.050 against the same student without a teacher"
    )
    assert f"95 % interval after Holm {gap.low:+.3f} to {gap.high:+.3f}, 3 seeds." in text


def test_the_answer_no_says_that_it_hurt():
    text = said(runs("control", CONTROL), distilled("arm", WORSE))
    assert text.startswith("arm: no, distillation hurt: test accuracy -0.050")


def test_no_gain_is_said_plainly_with_what_could_go_unseen():
    table = only(runs("control", CONTROL) + distilled("arm", MIXED))
    text = answer(table)
    assert text.startswith("arm: no gain shown: test accuracy +0.003")
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
        "arm: cannot be said: the same student without a teacher, trained on the same seed, is not among these runs"
    )


def test_every_distilled_arm_gets_its_sentence_and_no_other_arm():
    text = said(runs("control", CONTROL), distilled("one", BETTER), distilled("two", MIXED))
    assert [line.split(":")[0] for line in text.splitlines()] == ["one", "two"]
    assert answer(only(runs("control", CONTROL))) == "There is no distilled student to judge among these runs."


def test_the_answer_names_the_split_else_a_gain_on_validation_reads_as_one_on_test():
    def validated(arm, values, **more):
        return [record(arm, seed, None, metrics={"val/accuracy": value}, **more) for seed, value in values.items()]

    records = validated("control", CONTROL) + validated("arm", BETTER, role="distilled", control="control")
    assert "helped: val accuracy +0.050" in answer(only(records, "val/accuracy"))


@pytest.mark.parametrize(("values", "word"), [(BETTER, "better"), (WORSE, "worse"), (MIXED, "no difference shown")])
def test_against_another_baseline_nothing_is_said_of_whether_distillation_helped(values, word):
    records = [*runs("control", CONTROL), *distilled("base", CONTROL), *distilled("arm", values)]
    text = answer(only(records, baseline="base"))
    assert text.startswith(f"arm: {word}: test accuracy ")
    assert "against base" in text
    assert len(text.splitlines()) == 1  # the baseline is not held against itself
    assert "distillation" not in text


# Baselines of one's own


HASHES = {"aaaa1111": BETTER, "aaaa2222": MIXED, "bbbb3333": WORSE}


def hashed():
    made = runs("cccc4444", CONTROL, label="plain")
    for place, (arm, values) in enumerate(HASHES.items()):
        made += distilled(arm, values, control="cccc4444", label=f"arm {place}")
    return made


@pytest.mark.parametrize("baseline", ["plain", "cccc4444", "cccc", "cccc4444-1"])
def test_a_baseline_goes_by_name_by_a_start_of_its_hash_or_by_one_of_its_runs(baseline):
    table = only(hashed(), baseline=baseline)
    assert table.against == "plain"
    assert {arm.label for arm in table.arms if arm.pairs} == {"arm 0", "arm 1", "arm 2"}
    gap = arm_of(table, "arm 0").difference
    assert gap == paired_difference(BETTER, CONTROL).at(gap.alpha)
    assert arm_of(table, "plain").difference is None


def test_against_a_baseline_the_control_is_judged_too():
    table = only(hashed(), baseline="arm 0")
    gap = arm_of(table, "plain").difference
    assert gap == paired_difference(CONTROL, BETTER).at(gap.alpha)
    assert arm_of(table, "plain").verdict == "worse"
    assert table.against == "arm 0"


def test_without_a_baseline_the_table_says_that_controls_are_meant():
    assert only(hashed()).against == SAME_STUDENT


def test_a_start_that_two_hashes_share_is_refused_naming_both():
    with pytest.raises(UserError, match=r"^baseline='aaaa' names 2 arms: arm 0, arm 1$"):
        only(hashed(), baseline="aaaa")


@pytest.mark.parametrize("baseline", ["tpyo", "aaa", "a-run-that-is-not-there"])
def test_a_baseline_that_is_not_there_is_refused_with_what_there_is_even_where_controls_could_stand_in(baseline):
    with pytest.raises(UserError, match=f"^baseline='{baseline}'") as caught:
        tables_of(hashed(), baseline=baseline)
    assert all(
        f"{label} (#{key[:6]})" in str(caught.value) for label, key in (("plain", "cccc44"), ("arm 2", "bbbb33"))
    )
    assert "\n" not in str(caught.value)


def test_a_baseline_that_shares_no_seed_with_anything_is_refused():
    records = [*runs("control", CONTROL), *runs("teacher", {9: 0.9}, role="teacher")]
    with pytest.raises(UserError, match="shares a seed"):
        only(records, baseline="teacher")


def test_where_one_table_has_no_such_baseline_it_holds_nothing_against_anything_and_says_so():
    elsewhere = {"tags": {"kd.test_digest": "digest-2", "kd.dataset": "second"}}
    records = [*hashed(), *runs("control", CONTROL, **elsewhere), *distilled("arm", BETTER, **elsewhere)]
    first, second = tables_of(records, baseline="plain")
    assert arm_of(first, "arm 0").verdict == "better"
    assert [arm.pairs for arm in second.arms] == [(), ()]
    assert second.against == "plain"
    assert notes_of(records, baseline="plain") == ["second: nothing there has a seed in common with 'plain'"]


# Arms by parameters


def searched():
    """Two values of alpha, each with two learning rates, and a control for each learning rate."""
    made = []
    for rate, low in (("0.1", 0.0), ("0.2", -0.1)):
        made += runs(f"control {rate}", shifted(CONTROL, low, low, low), params={"learning_rate": rate})
        for alpha, gaps in (("0.3", (0.02, 0.03, 0.01)), ("0.7", (-0.02, -0.03, 0.01))):
            values = shifted(CONTROL, *(low + gap for gap in gaps))
            params = {"learning_rate": rate, "alpha": alpha}
            made += distilled(f"arm {rate} {alpha}", values, control=f"control {rate}", params=params)
    return made


def test_grouped_by_a_parameter_a_seeds_value_is_the_mean_of_its_runs_and_each_run_meets_its_own_control():
    table = only(searched(), group_by="alpha")
    assert [arm.label for arm in table.arms] == ["student", "distilled · alpha=0.3", "distilled · alpha=0.7"]
    arm = arm_of(table, "distilled · alpha=0.3")
    values = shifted(CONTROL, 0.02, 0.03, 0.01)
    assert arm.quality.n == 3
    assert arm.quality.mean == pytest.approx(fmean(values.values()) - 0.05)
    assert arm.difference.n == 3
    assert arm.difference.mean == pytest.approx(0.02)
    assert arm.difference.p == pytest.approx(paired_difference(values, CONTROL).p)
    assert len(arm.run_ids) == len(arm.pairs) == 6
    assert {(pair.run_id[4:7], pair.against[8:11]) for pair in arm.pairs} == {("0.1", "0.1"), ("0.2", "0.2")}


def test_the_order_of_runs_does_not_change_a_grouped_table():
    records = searched()
    expected = only(records, group_by="alpha")
    for seed in range(5):
        random.Random(seed).shuffle(records)
        assert only(records, group_by="alpha") == expected


def test_two_parameters_make_an_arm_together_and_tags_count_as_well():
    labels = [arm.label for arm in only(searched(), group_by="learning_rate,alpha").arms]
    assert "distilled · learning_rate=0.1 · alpha=0.7" in labels
    assert len(labels) == 6
    assert [arm.label for arm in only(hashed(), group_by="dataset").arms] == [
        "student · dataset=d",
        "distilled · dataset=d",
    ]
    assert only(hashed(), group_by="kd.dataset").arms[0].label == "student · kd.dataset=d"


def test_a_baseline_may_be_a_group():
    table = only(searched(), group_by="alpha", baseline="distilled · alpha=0.3")
    arm = arm_of(table, "distilled · alpha=0.7")
    assert arm.difference.mean == pytest.approx(fmean([-0.04, -0.06, 0.0]))
    assert len(arm.pairs) == 12  # two by two runs on each of three seeds


def test_two_trivial_baselines_are_never_averaged_into_one():
    trivial = [*runs("majority", {0: 0.1}, role="trivial"), *runs("words", {0: 0.9}, role="trivial")]
    table = only([*searched(), *trivial], group_by="alpha")
    assert [arm.quality.mean for arm in table.arms if arm.role == "trivial"] == [0.1, 0.9]


def test_a_name_to_group_by_that_no_run_has_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match=r"^group_by='alhpa': no run has .*; did you mean alpha\?$"):
        only(searched(), group_by="alhpa")
    with pytest.raises(UserError, match=r"parameters are alpha, learning_rate$"):
        only(searched(), group_by="colour")


def test_a_table_whose_runs_lack_the_parameter_does_not_stop_the_others():
    elsewhere = {"tags": {"kd.test_digest": "digest-2"}}
    first, second = tables_of([*searched(), *runs("plain", CONTROL, **elsewhere)], group_by="alpha")
    assert [arm.label for arm in second.arms] == ["student"]
    assert len(first.arms) == 3


# Names


def test_arms_that_read_the_same_are_told_apart_by_the_parameters_that_differ():
    shared = {"epochs": "3", "seed": "0", "experiment": "x"}
    records = [
        *runs("one", CONTROL, label="student", params={**shared, "learning_rate": "0.1"}),
        *runs(
            "two", CONTROL, label="student", params={**shared, "learning_rate": "0.2", "experiment": "y", "seed": "1"}
        ),
        *runs("three", CONTROL, label="student", params=shared),
        *runs("four", CONTROL, label="another", params={**shared, "epochs": "9"}),
    ]
    assert sorted(arm.label for arm in only(records).arms) == [
        "another",
        "student · learning_rate=0.1",
        "student · learning_rate=0.2",
        "student · learning_rate=default",
    ]


def test_arms_without_any_parameter_that_differs_are_told_apart_by_their_hash():
    table = only(runs("abcd1", CONTROL, label="student") + runs("efgh1", CONTROL, label="student"))
    assert sorted(arm.label for arm in table.arms) == ["student #abcd", "student #efgh"]


def test_no_two_arms_of_a_table_bear_one_name_whatever_the_runs():
    draw = random.Random(0)
    for _ in range(50):
        records = [
            record(
                f"{draw.randrange(9)}{place:03}", 0, 0.5, label=draw.choice("ab"), params={"epochs": draw.choice("123")}
            )
            for place in range(6)
        ]
        labels = [arm.label for arm in only(records).arms]
        assert len(set(labels)) == len(labels) == 6


# Effort


def test_an_arm_that_was_trained_longer_than_its_control_is_told_of_and_one_of_equal_length_is_not():
    compared = only(runs("control", CONTROL) + distilled("longer", BETTER) + distilled("as long", BETTER))
    steps = {pair.against: 200 for one in compared.arms for pair in one.pairs}
    steps |= {f"longer-{seed}": 300 for seed in range(3)} | {f"as long-{seed}": 205 for seed in range(3)}
    (told,) = uneven_steps(compared, steps)
    assert told == f"longer had 300 weight updates, {compared.against} 200"
    assert uneven_steps(compared, {}) == []


# Trade-offs

COST = "profile/latency_ms_p50"


def priced(points, metric="accuracy"):
    records = [
        record(f"arm {place}", 0, quality, metrics={"test/loss": quality, **({} if cost is None else {COST: cost})})
        for place, (quality, cost) in enumerate(points)
    ]
    return only(records, metric)


def test_the_front_by_hand():
    table = priced([(0.9, 30.0), (0.8, 10.0), (0.7, 20.0), (0.85, 20.0), (0.95, None)])
    assert [arm.label for arm in pareto_front(table, COST)] == ["arm 1", "arm 3", "arm 0"]
    assert pareto_front(table, "model/gflops") == []


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_who_is_on_the_front_is_beaten_by_nobody_and_who_is_not_is_beaten_or_equalled_by_someone_who_is(metric):
    draw = random.Random(1)
    for _ in range(200):
        points = [
            (draw.randrange(5) / 10, None if draw.random() < 0.2 else float(draw.randrange(1, 6))) for _ in range(7)
        ]
        table = priced(points, metric)
        front = pareto_front(table, COST)
        places = [
            (arm.quality.mean if metric == "accuracy" else -arm.quality.mean, -arm.figures[COST]) for arm in front
        ]
        costs = [arm.figures[COST] for arm in front]
        assert costs == sorted(costs)
        for quality, cost in points:
            if cost is None:
                continue
            point = (quality if metric == "accuracy" else -quality, -cost)
            assert any(one[0] >= point[0] and one[1] >= point[1] for one in places)
            assert not any(point[0] >= one[0] and point[1] >= one[1] and point != one for one in places)


def test_a_tuned_student_is_not_said_to_be_held_against_the_same_student():
    control, arm = runs("control", CONTROL), distilled("arm", BETTER)
    tuned = [replace(one, tags={**one.tags, "kd.tuned": "true"}) for one in arm]
    assert only([*control, *arm]).against == SAME_STUDENT
    table = only([*control, *tuned])
    assert table.against == "the student without a teacher, tuned as much"
    assert "yes, distillation helped" in answer(table)


def test_an_arm_names_all_rows_it_was_trained_on():
    records = [record("arm", seed, 0.8, tags={"kd.dataset_digest": f"rows-{seed % 2}"}) for seed in range(3)]
    assert arm_of(tables_of(records)[0], "arm").trained_on == ("rows-0", "rows-1")


def test_arms_of_one_role_stand_by_the_numbers_in_their_names():
    records = [run for count in (100, 1000, 300) for run in runs(f"student · {count} labels", {0: 0.5})]
    assert [arm.label for arm in only(records).arms] == [f"student · {count} labels" for count in (100, 300, 1000)]


def test_arms_that_differ_by_their_number_of_labels_say_it_in_words_and_stand_in_its_order():
    records = [
        run
        for count in ("0", "1000", "300")
        for run in runs(f"bag-{count}", {0: 0.5}, label="bag of words", params={"labelled": count})
    ]
    labels = ["bag of words · 300 labels", "bag of words · 1000 labels", "bag of words · all labels"]
    assert [arm.label for arm in only(records).arms] == labels


def test_labels_are_tags_and_the_runs_of_an_older_store_beside_them_are_called_by_their_titles():
    new = [
        replace(one, name="renamed in the UI", tags={**one.tags, "kd.label": "distill soft · 2 layers"})
        for one in distilled("arm", CONTROL)
    ]
    old = runs("control", CONTROL, label="student · 2 layers")
    assert [arm.label for arm in only([*old, *new]).arms] == ["student · 2 layers", "distill soft · 2 layers"]
    tag = {"kd.label": "student · 2 layers"}
    again = [replace(one, run_id=f"new {one.run_id}", name="?", started=1, tags={**one.tags, **tag}) for one in old]
    assert [arm.label for arm in only([*old, *again]).arms] == ["student · 2 layers"]


def test_an_arm_fits_a_device_that_every_judged_run_of_it_fits_and_none_is_named_that_nobody_asked_for():
    """One small seed would else pass for an arm whose other seeds are too large."""
    fits = {"kd.fits_device.board": "true: 1 of 2", "kd.fits_device.phone": "true: 1 of 1"}
    too_large = {**fits, "kd.fits_device.phone": "false: 2 of 1", "kd.fits_device.a\u202ebc": "true: 1 of 2"}
    records = [record("a", 0, 0.8, tags=fits), record("a", 1, 0.8, tags=too_large), record("a", 2, 0.8)]
    (table,) = tables_of([*records, record("b", 0, 0.8)])
    assert {arm.key: dict(arm.devices) for arm in table.arms} == {
        "a": {"a\\u202ebc": True, "board": True, "phone": False},
        "b": {},
    }


def test_arms_of_one_name_are_told_apart_by_what_is_learned_and_not_by_budgets():
    params = [{"epochs": "1", "ram_budget_mib": "5", "devices": "d"}, {"epochs": "2", "ram_budget_mib": "0"}]
    records = [record(str(place), 0, 0.8, label="student", params=one) for place, one in enumerate(params)]
    (table,) = tables_of(records)
    assert {arm.label for arm in table.arms} == {"student · epochs=1", "student · epochs=2"}
