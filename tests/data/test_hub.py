"""The hub: asked once, never for code, and a plain word when it does not answer."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import datasets
import pytest
from datasets import Dataset, DatasetDict
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError

from kd.base.types import UserError
from kd.config import RowOptions
from kd.data import hub
from kd.data.sources import load

DATA = DatasetDict(train=Dataset.from_dict({"text": ["a"]}))


@pytest.fixture
def calls(monkeypatch):
    """Stand-ins for the hub; `answer` and `outcome` may be set to an exception."""
    seen = {"answer": None, "outcome": DATA, "loads": [], "offline": []}

    class Api:
        def dataset_info(self, name, timeout):
            assert timeout <= 10
            if seen["answer"]:
                raise seen["answer"]

    def load_dataset(*args, **kwargs):
        seen["loads"].append((args, kwargs))
        seen["offline"].append(datasets.config.HF_HUB_OFFLINE)
        if isinstance(seen["outcome"], Exception):
            raise seen["outcome"]
        return seen["outcome"]

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    return seen


def refusal(identifier="owner/name"):
    with pytest.raises(UserError) as caught:
        hub.load(identifier)
    text = str(caught.value)
    assert "\n" not in text
    assert identifier in text
    return text


@pytest.mark.parametrize(("identifier", "args"), [("o/n:c", ("o/n", "c")), ("o/n", ("o/n", None)), ("n:c", ("n", "c"))])
def test_the_config_after_the_colon_reaches_the_hub_and_remote_code_is_never_trusted(calls, identifier, args):
    assert hub.load(identifier) is DATA
    assert calls["loads"] == [(args, {})]
    assert calls["offline"] == [False]


def test_an_unreachable_hub_leaves_the_cache_and_the_offline_switch_as_it_was(calls):
    calls["answer"] = HTTPError("no route")
    assert hub.load("o/n") is DATA
    assert calls["offline"] == [True]
    assert datasets.config.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("answer", [HTTPError("no\nroute"), ConnectionError("off")])
def test_an_unreachable_hub_without_a_cache_points_to_local_files(calls, answer):
    calls.update(answer=answer, outcome=ConnectionError("Couldn't reach it"))
    text = refusal()
    assert "cannot be reached" in text
    assert "local file" in text
    assert datasets.config.HF_HUB_OFFLINE is False


def test_an_unknown_id_is_refused_before_anything_is_loaded(calls):
    calls["answer"] = RepositoryNotFoundError("404", response=SimpleNamespace(headers={}, request=None))
    assert "owner/name" in refusal()
    assert calls["loads"] == []


def test_a_data_set_that_needs_its_own_code_is_refused(calls):
    calls["outcome"] = RuntimeError("Dataset scripts are no longer supported, but found x.py")
    assert "code of its own" in refusal()


def test_a_wrong_config_lists_the_right_ones(calls):
    calls["outcome"] = ValueError("BuilderConfig 'x' not found.\nAvailable: ['a', 'b']")
    assert "['a', 'b']" in refusal("owner/name:x")


@pytest.mark.parametrize("offline", ["", "1"])
def test_no_answer_fails_within_20_seconds_and_not_after_many_retries(offline, tmp_path):
    program = "from kd.data import hub\ntry: hub.load('o/n')\nexcept Exception as e: print(type(e).__name__, e)"
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": offline, "HF_HOME": str(tmp_path)}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert time.monotonic() - start < 20
    assert done.stdout.startswith("UserError")


def rows(count, start=0):
    return [{"text": f"row {i}", "label": f"c{i % 3}"} for i in range(start, start + count)]


def rejected(dataset, **files):
    with pytest.raises(UserError) as caught:
        load(RowOptions(dataset=dataset, **files), ("text",), "label", {})
    return str(caught.value)


@pytest.mark.parametrize("dataset", ["", "./gone", "gone.csv", "data/gone.parquet", "a b", "builtin:gone", "x/y/z"])
def test_a_data_set_that_is_nowhere_is_not_looked_up_on_the_hub(dataset, monkeypatch):
    monkeypatch.setattr(hub, "load", lambda identifier: pytest.fail("asked the hub"))
    assert "builtin" in rejected(dataset)


@pytest.mark.parametrize("dataset", ["owner/name", "owner/name:config", "name", "name:config"])
def test_hub_splits_are_found_by_prefix_and_the_rest_is_named(dataset, monkeypatch):
    asked = []
    data = DatasetDict(
        train=Dataset.from_list(rows(40)),
        validation_matched=Dataset.from_list(rows(20, 100)),
        validation_mismatched=Dataset.from_list(rows(20, 200)),
        test_matched=Dataset.from_list([{**row, "label": None} for row in rows(20, 300)]),
    )
    monkeypatch.setattr(hub, "load", lambda identifier: asked.append(identifier) or data)
    splits = load(RowOptions(dataset=dataset), ("text",), "label", {})
    assert asked == [dataset]
    assert splits.test["example_id"][0] == "validation_matched:0"
    assert any("validation_mismatched" in note and "left out" in note for note in splits.notes)


def test_files_named_for_a_hub_data_set_are_refused_rather_than_ignored(monkeypatch):
    monkeypatch.setattr(hub, "load", lambda identifier: pytest.fail("asked the hub"))
    assert "--test_file" in rejected("owner/name", test_file="x.csv")
