"""Which teacher a student has where none is named, and what it is called where it was cut from another model."""

from types import SimpleNamespace

import pytest

from kd.base.types import UserError
from kd.config import StudentConfig
from kd.run import student
from kd.run.student import called


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("models:/kd-classification-banking77-6f2902-teacher/6", "teacher 6"),
        ("models:/kd-classification-banking77-6f2902/3", "6f2902 3"),
        ("models:/kd-classification-banking77-6f2902@champion", "kd-classification-banking77-6f2902@champion"),
        ("models:/m-0123", "m-0123"),
        ("runs:/0123/model", "model"),
        ("builtin:minilm-l6", "builtin:minilm-l6"),
        ("nreimers/MiniLM-L6", "MiniLM-L6"),
        ("weights/tiny/", "tiny"),
    ],
)
def test_a_source_is_called_by_what_tells_it_from_others(source, words):
    assert called(source) == words


def versions(*digests):
    """Versions 1, 2, ... of a teacher that have seen these labels; the last of them is exported."""
    found = [
        SimpleNamespace(version=str(place), tags={"kd.dataset_digest": one}) for place, one in enumerate(digests, 1)
    ]
    found[-1].tags["kd.exported_from"] = "models:/t/1"
    return found


@pytest.mark.parametrize(
    ("labelled", "digests", "number"),
    [
        (0, ["own", "own", "all", "other", "own"], "2"),
        (0, ["all", "all", "other", "own"], "2"),
        (0, ["other", "other", "own"], "2"),
        (5, ["own", "all", "other", "own"], "1"),
        (5, ["all", "other", "own"], None),
        (0, ["own"], None),
    ],
)
def test_the_newest_teacher_of_the_same_labels_comes_first_and_none_of_others_where_labels_are_few(
    monkeypatch, labelled, digests, number
):
    monkeypatch.setattr(student.tracking, "versions", lambda name: versions(*digests))
    monkeypatch.setattr(student, "load", lambda task, name, option, finished: name)
    rows = SimpleNamespace(task=None, test_digest="0123456789", train_digest="own", full_digest="all")
    config = StudentConfig(dataset="d.csv", labelled=labelled)
    if number is None:
        command = f"python -m kd teacher --dataset d.csv{' --labelled 5' if labelled else ''}"
        with pytest.raises(UserError, match=f"teacher is missing, .*: name one, or train it: {command}$"):
            student.find_teacher(config, rows)
    else:
        assert student.find_teacher(config, rows) == f"models:/kd-classification-d-012345-teacher/{number}"
