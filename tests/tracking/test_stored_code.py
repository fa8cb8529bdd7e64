"""A stored model is not loaded unless its code is what this project has released, however else it may bring some."""

import json
import os
import tarfile
from pathlib import Path

import pytest
import yaml

from kd import tracking
from kd.base.hashing import bytes_digest, file_digest
from kd.base.released import RELEASED
from kd.base.types import UserError
from kd.tasks import TASKS, task_named
from kd.tracking.stored_code import FLAVOR, LOADER, require_released

TASK_NAMES = [name for name, entry in TASKS.items() if entry.place.startswith("kd.")]
FIXTURE = Path(__file__).parents[1] / "fixtures" / "store-0.1.0.tar.gz"


@pytest.mark.parametrize("name", TASK_NAMES)
def test_a_change_of_the_served_code_adds_its_digest_else_its_own_models_would_be_refused(name):
    shipped = task_named(name).shipped.fget(None)
    for path in (task_named(name).served.fget(None), *(sorted(shipped.glob("*.py")) if shipped else ())):
        assert file_digest(path) in RELEASED, f"add a line to kd/base/released.py: {file_digest(path)} {path.name}"


def test_the_code_of_an_earlier_release_stays_valid():
    with tarfile.open(FIXTURE) as tar:
        found = {
            bytes_digest([tar.extractfile(entry).read()])
            for entry in tar.getmembers()
            if entry.name.endswith("/served.py")
        }
    assert found
    assert found <= RELEASED.keys()


def test_code_beside_weights_is_run_only_where_it_was_released(model):
    weights = model / "artifacts" / "weights"
    (weights / "forecast").mkdir()
    known = sorted(task_named("forecasting").shipped.fget(None).glob("*.py"))
    for path in known:
        (weights / "forecast" / path.name).write_bytes(path.read_bytes())
    require_released(model, "it")
    for name in ("__init__.py", "more.py", "base.pyc", "deep/base.so"):
        path = weights / "forecast" / name
        before = path.read_bytes() if path.exists() else None
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((before or b"") + b"# changed")
        with pytest.raises(UserError, match=f"{path.name}', is none that this project has released"):
            require_released(model, "it")
        path.unlink() if before is None else path.write_bytes(before)


@pytest.fixture
def model(tmp_path):
    """The folder of a model as this project logs it, as far as its code goes."""
    root, weights = tmp_path / "model", tmp_path / "model" / "artifacts" / "weights"
    weights.mkdir(parents=True)
    (root / "served.py").write_bytes(task_named("classification").served.fget(None).read_bytes())
    (weights / "config.json").write_text(json.dumps({"architectures": ["BertForSequenceClassification"]}))
    flavor = {
        "artifacts": {"model": {"path": "artifacts/weights", "uri": "/elsewhere/weights"}},
        "code": None,
        "loader_module": LOADER,
        "model_code_path": "/elsewhere/served.py",
        "python_version": "3.11.7",
    }
    write(root, {"flavors": {FLAVOR: flavor}})
    return root


def write(root, about):
    (root / "MLmodel").write_text(yaml.safe_dump(about))


def changed(root, **flavor):
    about = yaml.safe_load((root / "MLmodel").read_text())
    about["flavors"][FLAVOR] |= flavor
    write(root, about)


def other_flavor(root):
    about = yaml.safe_load((root / "MLmodel").read_text())
    about["flavors"]["sklearn"] = {"pickled_model": "model.pkl"}
    write(root, about)


def config(root, name="config.json", **settings):
    (root / "artifacts" / "weights" / name).write_text(json.dumps(settings))


def linked(root):
    real = root.parent / "served.py"
    (root / "served.py").rename(real)
    (root / "served.py").symlink_to(real)


def linked_weights(root):
    weights = root / "artifacts" / "weights"
    weights.rename(root.parent / "weights")
    weights.symlink_to(root.parent / "weights")


FOREIGN = {
    "other code": lambda root: (root / "served.py").write_text("import mlflow\n"),
    "a byte more": lambda root: (root / "served.py").write_bytes((root / "served.py").read_bytes() + b"\n"),
    "no code": lambda root: (root / "served.py").unlink(),
    "a link": linked,
    "another file": lambda root: changed(root, model_code_path="other.py"),
    "a loader": lambda root: changed(root, loader_module="os"),
    "code paths": lambda root: changed(root, code="code"),
    "a pickle": lambda root: changed(root, python_model="python_model.pkl"),
    "data with an MLmodel of its own": lambda root: changed(root, data="inner"),
    "another method": lambda root: changed(root, predict_fn="__reduce__"),
    "another flavor": other_flavor,
    "no flavor": lambda root: write(root, {"flavors": {}}),
    "no MLmodel": lambda root: (root / "MLmodel").unlink(),
    "an object": lambda root: (root / "MLmodel").write_text("!!python/object/apply:os.system ['true']"),
    "artifacts elsewhere": lambda root: changed(root, artifacts={"model": {"path": "../weights"}}),
    "artifacts of the machine": lambda root: changed(root, artifacts={"model": {"path": "/etc"}}),
    "artifacts by a link": linked_weights,
    "auto_map": lambda root: config(root, auto_map={"AutoConfig": "code.Config"}),
    "a nested auto_map": lambda root: config(root, text_config={"auto_map": {"AutoConfig": "code.Config"}}),
    "a tokenizer's code": lambda root: config(root, "tokenizer_config.json", auto_map={"AutoTokenizer": "code.T"}),
    "a kernel": lambda root: config(root, attn_implementation="owner/kernel"),
    "a private kernel": lambda root: config(root, _attn_implementation={"": "owner/kernel:main"}),
    "a config that is none": lambda root: (root / "artifacts" / "weights" / "config.json").write_text("["),
}


def test_a_model_of_this_project_is_run_whatever_its_labels_are_called(model):
    config(model, label2id={"auto_map": 0, "a/b": 1}, auto_map=None, _attn_implementation="sdpa")
    require_released(model, "model='m'")


@pytest.mark.parametrize("name", FOREIGN)
def test_a_model_that_may_bring_code_is_refused_in_one_line(model, name):
    FOREIGN[name](model)
    with pytest.raises(UserError, match=r"^model='m' is not run: [^\n]+$"):
        require_released(model, "model='m'")


@pytest.mark.parametrize("load", [tracking.load_served, tracking.answers_apart])
def test_foreign_code_is_never_executed(model, load, monkeypatch):
    seen = model.parent / "seen"
    (model / "served.py").write_text(f"import pathlib\npathlib.Path({os.fspath(seen)!r}).touch()\n")
    (model / "serving_input_example.json").write_text('{"inputs": ["a"]}')
    with pytest.raises(UserError, match="none that this project has released"):
        load(str(model))
    assert not seen.exists()
