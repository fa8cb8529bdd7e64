"""Which terms an objective becomes, which arms are one, and what is refused before any training."""

from dataclasses import replace

import numpy as np
import pytest
from tokenizers import normalizers

from kd.base.hashing import fingerprint
from kd.base.types import UserError
from kd.config import DistillConfig
from kd.run import distill, student
from kd.run.data import load_rows
from tests.tiny import bert, saved_bert, tokenizer

WORDS = ("good", "bad", "fine", "poor", "very", "not")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Forty rows, and a teacher of four layers in a folder."""
    folder = tmp_path_factory.mktemp("objective")
    lines = [f"{WORDS[i % 6]} {WORDS[i % 5]} film {chr(97 + i % 26)} {i},{('bad', 'good')[i % 2]}" for i in range(40)]
    (folder / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    teacher = saved_bert(folder / "teacher", layers=4)
    return DistillConfig(dataset=str(folder / "rows.csv"), teacher=str(teacher), precision="fp32")


@pytest.fixture(scope="module")
def rows(base):
    return load_rows(base)


@pytest.fixture(scope="module")
def other(base, tmp_path_factory):
    """A narrower student; of another vocabulary where told so."""

    def make(name, words=None):
        folder = tmp_path_factory.mktemp(name)
        bert(layers=2, width=8).save_pretrained(folder)
        (words or tokenizer()).save_pretrained(folder)
        return str(folder)

    return make


@pytest.fixture
def arm(base, rows):
    """Return the hash of what a student learns."""
    return lambda **changes: fingerprint(distill.plan(replace(base, **changes), rows).identity)


SAME = [
    ({"objective": "soft:1"}, {"objective": "soft"}),
    ({"objective": "mixed"}, {"objective": "attention, soft:1.0,hidden"}),
    ({"objective": "soft"}, {"match": "last", "beta": 0.1}),
    ({"objective": "hidden"}, {"objective": "hidden", "temperature": 5.0, "beta": 0.1}),
    ({"objective": "hidden"}, {"objective": "hidden", "match": "1:3,0:1"}),
    ({"objective": "patient"}, {"objective": "patient", "match": "skip"}),
    ({"objective": "relation,cosine"}, {"objective": "cosine,relation", "match": "last"}),
]
OTHER = [
    ({"objective": "soft"}, {"objective": "soft:0.5"}),
    ({"objective": "jsd"}, {"objective": "jsd", "beta": 0.1}),
    ({"objective": "dkd"}, {"objective": "dkd", "temperature": 1.0}),
    ({"objective": "hidden"}, {"objective": "hidden", "match": "last"}),
    ({"objective": "hidden"}, {"objective": "hidden", "alpha": 0.1}),
]


@pytest.mark.parametrize(("one", "two"), SAME, ids=str)
def test_an_arm_does_not_change_by_spelling_nor_by_options_without_effect(arm, one, two):
    assert arm(**one) == arm(**two)


@pytest.mark.parametrize(("one", "two"), OTHER, ids=str)
def test_an_arm_changes_by_what_has_an_effect(arm, one, two):
    assert arm(**one) != arm(**two)


def test_arm_and_control_differ_by_the_objective_alone(base, rows):
    control = student.plan(base, rows)
    found = distill.plan(replace(base, objective="hidden:0.5,soft"), rows)
    assert found.control == control.identity
    assert found.identity.items() > control.identity.items()
    assert distill.plan(replace(base, objective="none"), rows).identity == control.identity
    assert found.objective.weights == {"soft": 1.0, "hidden": 0.5}
    assert found.title == "distill soft,hidden:0.5 T=2 a=0.5 · 2 layers · seed 0"


def test_the_teacher_gives_on_train_what_is_compared_and_no_layer_that_is_not(base, rows):
    found = distill.plan(replace(base, objective="soft,hidden,attention,relation", cache="off"), rows)
    compared = ("outputs", "attention.1", "attention.3", "hidden.1", "hidden.3", "relation.3")
    assert found.objective.contents == compared
    assert distill.plan(base, rows).objective.contents == ("outputs",)
    given = found.signals.train(found.objective.contents)(np.arange(2))
    assert (set(given.outputs), set(given.hidden), set(given.attention), set(given.relation)) == (
        {"logits"},
        {1, 3},
        {1, 3},
        {3},
    )
    plain = found.signals.train()(np.arange(2))
    assert set(plain.outputs) == {"logits"}
    assert not any((plain.hidden, plain.attention, plain.relation))


def refusal(base, rows, **changes):
    with pytest.raises(UserError) as caught:
        distill.plan(replace(base, **changes), rows)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_an_objective_that_the_task_has_no_use_for_is_refused_by_name(base, rows):
    """Its squared error of logits would train, and mean nothing."""
    text = refusal(base, rows, objective="soft,mse")
    assert all(words in text for words in ("objective='soft,mse'", "mse means nothing", "task='classification'"))
    assert text.endswith(", ".join(rows.task.objectives))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objective": "hidden", "match": "0:4"}, ("match='0:4'", "student has 2", "teacher 4")),
        ({"objective": "attention", "match": "skip", "student_layers": "1"}, ("match='skip'", "student has 1 layer")),
        ({"objective": "patient", "student_layers": "1"}, ("patient", "student of 1", "teacher of 4")),
    ],
)
def test_an_impossible_map_is_refused_before_training_and_one_that_is_not_used_is_not(base, rows, changes, told):
    text = refusal(base, rows, **changes)
    assert all(words in text for words in told), text
    distill.plan(replace(base, **{**changes, "objective": "soft,relation,cosine"}), rows)


def test_a_narrower_student_is_joined_by_projections_of_hidden_states_alone(base, rows, other):
    found = distill.plan(replace(base, student=other("narrow"), objective="mixed"), rows)
    assert {term.name: term.needs.widths for term in found.objective.terms} == {
        "soft": None,
        "hidden": (8, 16),
        "attention": None,
    }


@pytest.mark.parametrize("objective", ["hidden", "attention", "relation", "cosine", "patient:0.1,soft"])
def test_where_tokens_are_compared_student_and_teacher_must_cut_texts_alike(base, rows, other, objective):
    words = tokenizer()
    words.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    name = other("cased", words)
    text = refusal(base, rows, student=name, objective=objective)
    assert objective.partition(":")[0] in text
    advice = "give an objective that compares answers, such as soft"
    assert all(told in text for told in (name, base.teacher, "tokenizer", advice))
    distill.plan(replace(base, student=name, objective="soft,hard,jsd,dkd"), rows)


def test_tokenizers_that_differ_in_their_settings_alone_are_the_same(base, rows, other):
    words = tokenizer()
    words.model_max_length = 512
    distill.plan(replace(base, student=other("longer", words), objective="hidden"), rows)
