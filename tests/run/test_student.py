"""What a student is called where it was cut from another model than its teacher."""

import pytest

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
