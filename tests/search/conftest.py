"""Places for studies: both kinds of storage."""

import shutil

import pytest

from kd.search.storage import open_storage


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    path = tmp_path_factory.mktemp("optuna") / "empty.db"
    open_storage(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite(tmp_path, empty_database):
    shutil.copy(empty_database, tmp_path / "studies.db")
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture(params=["journal", "sqlite"])
def place(request, tmp_path):
    return str(tmp_path / "studies.journal") if request.param == "journal" else request.getfixturevalue("sqlite")


@pytest.fixture
def journal(tmp_path):
    return str(tmp_path / "studies.journal")
