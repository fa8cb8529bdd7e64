"""What the options decide is not searched: a space that draws it anyway would be refused, or draw in vain."""

import pytest

from kd.config import HpoConfig
from kd.search.prepare import _without_given
from kd.space.reading import load_space
from kd.tasks import task_named

SPACES = task_named("classification").spaces


def searched(**given):
    config = HpoConfig(dataset="d", space="shape", **given)
    return {one.name for one in _without_given(load_space("shape", SPACES), config)}


def test_a_configured_student_is_searched_neither_by_layers_nor_by_where_they_come_from(tmp_path):
    path = tmp_path / "c.json"
    path.write_text('{"num_hidden_layers": 2}')
    assert searched() - searched(student_config=str(path)) == {"student_layers", "initialisation"}


@pytest.mark.parametrize("given", [{"student_layers": "0,5"}, {"student": "m"}, {"initialisation": "importance"}])
def test_where_layers_come_from_is_not_searched_where_it_is_said(given):
    assert "initialisation" not in searched(**given)
