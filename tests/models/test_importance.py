"""A layer's importance is the loss without that layer alone, on the rows named, and is kept only for what it was."""

import copy
import json

import pytest
import torch
from datasets import Dataset

from kd.models.importance import Importance, measure, remembered
from kd.models.layers import layer_map, layer_stack
from kd.models.students import build_student
from kd.models.tokens import padded
from tests.models.test_students import MAKERS, VOCABULARY

FILL = {"input_ids": 0, "attention_mask": 0}
OUTPUTS = {
    "bert": ("attention.output.dense", "output.dense"),
    "distilbert": ("attention.out_lin", "ffn.lin2"),
    "gpt2": ("attn.c_proj", "mlp.c_proj"),
    "llama": ("self_attn.o_proj", "mlp.down_proj"),
    "qwen2": ("self_attn.o_proj", "mlp.down_proj"),
}
"""The projections that put a layer's parts out."""


def encoded(count=12):
    draw = torch.Generator().manual_seed(1)
    lengths = [3 + i % 5 for i in range(count)]
    ids = [torch.randint(3, VOCABULARY, (length,), generator=draw).tolist() for length in lengths]
    made = {"input_ids": ids, "attention_mask": [[1] * length for length in lengths], "length": lengths}
    made |= {"labels": [i % 3 for i in range(count)], "feature": range(count)}
    return Dataset.from_dict(made).with_format("numpy")


class Rows:
    """Rows as the loop reads them."""

    def __init__(self, count=12):
        self.made = encoded(count)

    def __len__(self):
        return len(self.made)

    def __getitem__(self, column):
        return self.made[column][:]

    def __getitems__(self, rows):
        return [self.made[row] for row in rows]


def collate(rows):
    return padded(rows, FILL, left=False, truth=("labels",))


def loss(outputs, batch):
    total = torch.nn.functional.cross_entropy(outputs.logits, batch.truth["labels"], reduction="sum")
    return total, torch.tensor(len(batch.truth["labels"]))


@pytest.fixture(params=MAKERS)
def teacher(request):
    torch.manual_seed(3)
    model = MAKERS[request.param]()
    with torch.no_grad():  # layers that matter
        for weight in model.parameters():
            weight.mul_(1 if weight.dim() < 2 else 5)
    return request.param, model


def found(model, positions=range(12)):
    return measure(model, Rows(), list(positions), collate, loss)


def test_the_loss_without_a_layer_is_that_of_a_model_that_never_had_it(teacher):
    _, model = teacher
    measured = found(model)
    shorter = build_student(model, 3, (0, 2, 3), seed=0).eval()
    batch = collate(Rows().__getitems__(range(12)))
    with torch.no_grad():
        total, count = loss(shorter(**batch.inputs), batch)
    assert measured.without[1] == pytest.approx(float(total / count), abs=1e-5)
    assert abs(measured.without[1] - measured.loss) > 1e-4  # else any layer would do


def test_a_layer_that_changes_nothing_is_dropped_first(teacher):
    name, model = teacher
    layers = model.get_submodule(layer_stack(model))
    with torch.no_grad():
        for part in OUTPUTS[name]:
            for weight in layers[2].get_submodule(part).parameters():
                weight.zero_()
    assert layer_map(3, "importance", 4, moved=lambda: found(model).moved) == (0, 1, 3)


def test_measuring_leaves_the_model_its_mode_and_its_layers_as_they_were(teacher):
    _, model = teacher
    model.train()
    before = copy.deepcopy(model.state_dict())
    first = found(model)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert found(model) == first  # no hook is left, and dropout is off


def test_it_is_measured_on_the_rows_named_and_no_others(teacher):
    _, model = teacher
    assert found(model, [0, 5]).rows == 2
    assert found(model, [0, 5]).loss != found(model, [1, 6]).loss


WHOLE = Importance(8, 0.7, (0.9, 0.6))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    return tmp_path / "importance"


def never():
    raise AssertionError("measured again")


def test_what_was_measured_is_read_again_and_is_the_same(home):
    assert remembered({"teacher": "a"}, lambda: WHOLE) == WHOLE
    assert remembered({"teacher": "a"}, never) == WHOLE
    assert WHOLE.moved == pytest.approx((0.2, 0.1))
    assert len(list(home.iterdir())) == 1  # nothing half-written is left


def test_another_teacher_data_or_code_is_measured_anew(home):
    remembered({"teacher": "a", "code": "1"}, lambda: WHOLE)
    other = Importance(8, 0.1, (0.2,))
    assert remembered({"teacher": "b", "code": "1"}, lambda: other) == other
    assert remembered({"teacher": "a", "code": "2"}, lambda: other) == other


@pytest.mark.parametrize(
    "left", ["", "{", "[]", json.dumps({"rows": 8, "loss": 0.7}), '{"rows": 8, "loss": NaN, "without": [0.9, 0.6]}']
)
def test_a_damaged_file_is_measured_again_and_mended(home, left):
    remembered({}, lambda: WHOLE)
    (path,) = home.iterdir()
    path.write_text(left)
    assert remembered({}, lambda: WHOLE) == WHOLE
    assert remembered({}, never) == WHOLE


def test_where_nothing_can_be_written_it_is_measured_every_time(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KD_HOME", str(tmp_path / "file"))
    assert remembered({}, lambda: WHOLE) == WHOLE
    assert "not kept" in caplog.text
