"""The demo is command lines that the commands take, in the order of a day's work, and asks the model it promoted."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from kd.base.types import Refused
from kd.commands import demo, main, promote, read
from kd.config import DemoConfig


@pytest.fixture
def done(monkeypatch):
    """What was run, with its options."""
    found = []
    served = SimpleNamespace(predict=lambda texts: [{"label": f"of {texts}", "score": 0.5}])
    monkeypatch.setattr(demo.tracking, "session", lambda name: nullcontext(name or "kd"))
    monkeypatch.setattr(demo.tracking, "load_served", lambda uri: found.append(uri) or served)
    monkeypatch.setattr(demo, "rows_of", lambda config: SimpleNamespace(test_digest="0123456789"))
    monkeypatch.setattr(main, "run", found.append)
    monkeypatch.setattr(promote, "run", found.append)
    return found


def test_what_is_shown_is_what_is_run_and_the_promoted_model_is_asked(done, capsys):
    demo.run(DemoConfig(experiment="try"))
    compared, promoted, asked = done
    assert (compared.experiment, compared.transfer, len(compared.seed_list)) == ("try", "rest", 3)
    assert 0 < compared.labelled < compared.epoch_rows
    assert promoted.model == "kd-classification-apidocs-012345"
    assert None not in (promoted.min_metric, promoted.min_teacher_share, promoted.allowed_drop)
    assert asked == f"models:/{promoted.model}@champion"
    shown = [line.split(" kd ")[1].split() for line in capsys.readouterr().out.splitlines() if line.startswith("$ ")]
    assert [read(name, words) for name, *words in shown] == [compared, promoted]


def test_a_model_that_a_gate_refused_is_not_asked(done, monkeypatch):
    def refuse(config):
        raise Refused("min_metric")

    monkeypatch.setattr(promote, "run", refuse)
    with pytest.raises(Refused):
        demo.run(DemoConfig())
    assert len(done) == 1
