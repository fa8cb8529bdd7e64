"""What is compared inside student and teacher is of the same rows and tokens, or absent."""

from dataclasses import replace

import pytest
import torch

from kd.config import StudentConfig
from kd.run import fidelity, student, teacher
from kd.run.data import load_rows
from kd.run.encode import sample
from kd.run.fidelity import inside
from kd.tasks.classification.options import ClassificationOptions
from tests.tiny import WORDS, bert, saved_bert, tokenizer

FIGURES = {"pearson", "pearson_floor", "top20", "top20_floor", "completeness_error", "examples"}
ATTRIBUTION = {f"fidelity/attribution_{name}" for name in FIGURES}


@pytest.fixture
def config(tmp_path):
    """Eighty rows of six words, and a teacher whose words matter."""
    lines = [
        f"{' '.join(WORDS[(i * step + step) % len(WORDS)] for step in range(1, 7))},{('bad', 'good')[i % 2]}"
        for i in range(80)
    ]
    lines = [f"{line.split(',')[0]} {chr(97 + i % 26)}{chr(97 + i // 26)},{line.split(',')[1]}"
             for i, line in enumerate(lines)]  # fmt: skip
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    model = bert(layers=2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4 if weight.dim() > 1 else 1)
    model.save_pretrained(tmp_path / "weights")
    tokenizer().save_pretrained(tmp_path / "weights")
    return StudentConfig(
        dataset=str(tmp_path / "rows.csv"), teacher=str(tmp_path / "weights"), precision="fp32", attribution_examples=3
    )


def planned(config):
    return student.plan(config, load_rows(config))


def test_a_student_that_is_its_teacher_agrees_in_everything_and_a_random_one_does_not(config):
    got = inside(planned(config), config)
    assert set(got) == ATTRIBUTION | {"fidelity/cka"}
    assert got["fidelity/cka"] == pytest.approx(1, abs=1e-5)
    assert got["fidelity/attribution_pearson"] == pytest.approx(1, abs=1e-4)
    assert got["fidelity/attribution_top20"] == 1.0
    assert got["fidelity/attribution_pearson_floor"] < 0.999
    assert got["fidelity/attribution_examples"] == 3
    assert 0 <= got["fidelity/attribution_completeness_error"] < 0.2


def test_the_floor_is_not_the_student_and_changes_nothing_of_it(config):
    plan = planned(config)
    before = {name: value.clone() for name, value in plan.model.state_dict().items()}
    inside(plan, config)
    assert all(torch.equal(value, before[name]) for name, value in plan.model.state_dict().items())


def test_another_student_agrees_less_than_the_teacher_with_itself(config):
    got = inside(planned(replace(config, initialisation="random")), config)
    assert got["fidelity/cka"] < 0.9999
    assert got["fidelity/attribution_pearson"] < 0.9999


def test_attributions_that_were_not_asked_for_are_absent(config):
    none = replace(config, attribution_examples=0)
    assert set(inside(planned(none), none)) == {"fidelity/cka"}


def test_all_seeds_of_a_student_are_compared_on_the_same_rows(config, monkeypatch):
    """Else an arm's seeds would differ by their examples."""
    seen = []
    real = fidelity.mean_states
    monkeypatch.setattr(fidelity, "MOST_FEATURES", 5)
    monkeypatch.setattr(fidelity, "mean_states", lambda *given: seen.append(list(given[2])) or real(*given))
    for seed in (0, 1):
        one = replace(config, seed=seed)
        inside(planned(one), one)
    assert len(seen) == 3  # the teacher, which both have, once
    assert seen == [seen[0]] * 3
    assert len(seen[0]) == 5


def test_a_teacher_is_read_anew_where_texts_are_cut_elsewhere(config, monkeypatch):
    """Else a student of longer texts would be compared with what the teacher made of shorter ones."""
    seen = []
    real = fidelity.mean_states
    monkeypatch.setattr(fidelity, "mean_states", lambda *given: seen.append(given[0]) or real(*given))
    for length in (4, 16):
        one = replace(config, task_options=ClassificationOptions(max_length=length))
        inside(planned(one), one)
    assert len(seen) == 4


def test_a_student_that_reads_other_tokens_has_no_attributions_and_is_told(config, tmp_path, capsys):
    other = saved_bert(tmp_path / "other")
    text = (other / "tokenizer.json").read_text()
    swapped = text.replace('"film"', '"FILM"').replace('"book"', '"film"').replace('"FILM"', '"book"')
    assert swapped != text
    (other / "tokenizer.json").write_text(swapped)
    mixed = replace(config, student=str(other))
    got = inside(planned(mixed), mixed)
    assert set(got) == {"fidelity/cka"}  # means over tokens need no common ones
    assert "student and teacher do not read the same tokens" in capsys.readouterr().out


def test_texts_too_short_to_explain_are_told_and_not_counted(config, tmp_path, capsys):
    lines = [f"{chr(97 + i % 26)} {chr(97 + i // 26)},{('bad', 'good')[i % 2]}" for i in range(80)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    assert set(inside(planned(config), config)) == {"fidelity/cka"}
    assert "no validation row has 5 tokens" in capsys.readouterr().out


def test_a_teacher_is_compared_with_nobody(config):
    from kd.config import TeacherConfig, narrowed

    options = narrowed(TeacherConfig, config)
    assert inside(teacher.plan(options, load_rows(config)), options) == {}


@pytest.mark.parametrize("count", [3, 10])
def test_a_sample_is_the_seeds_without_repetition_and_whole_where_it_fits(count):
    assert sample(count, 10, 0) == list(range(count))
    chosen = sample(50, 10, 4)
    assert chosen == sample(50, 10, 4) != sample(50, 10, 5)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 10
