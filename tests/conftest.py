"""What every test starts from: quiet cores, no network, no tracking store of the user's, and a home of its own."""

import os
import shutil
import subprocess

import psutil
import pytest

from kd.base.processes import myself

os.environ["GOMP_SPINCOUNT"] = "0"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
for stray in [name for name in os.environ if name.startswith("MLFLOW_")]:
    del os.environ[stray]


@pytest.fixture(autouse=True)
def kd_home(tmp_path, monkeypatch):
    """Checkpoints and caches of one test never reach another, nor the user's."""
    folder = tmp_path / "kd-home"
    monkeypatch.setenv("KD_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def make_store(tmp_path_factory):
    """Return a function that puts an empty MLflow store into a folder; the seconds MLflow needs are spent once."""
    from mlflow import MlflowClient

    empty = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{empty}").search_experiments()

    def make(folder):
        shutil.copy(empty, folder / "mlflow.db")
        return f"sqlite:///{folder}/mlflow.db"

    return make


@pytest.fixture(scope="session")
def dead():
    """Return the signature of a process of this machine that is gone."""
    process = subprocess.Popen(["sleep", "60"])
    started = psutil.Process(process.pid).create_time() - psutil.boot_time()
    process.kill()
    process.wait()
    return f"{myself().split('|')[0]}|{process.pid}|{started}"
