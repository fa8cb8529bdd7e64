"""The marked blocks of the documentation do what they say, one after the other, on tiny data."""

import re
import subprocess
import sys

import pytest
import yaml

from kd.commands import COMMANDS
from kd.config import options_in
from tests.documented import ROOT, blocks, command_lines, entry_point
from tests.integration.conftest import RECIPE, REPOSITORY, write_rows

pytestmark = pytest.mark.integration

PLACEHOLDER = "kd-classification-reviews-1a2b3c"
"""The registered model of the pages."""
SMALL = {"seeds": "0"}
"""What every training gets, where its command has the option: a model that is measured costs a fresh process."""


def pages():
    """Return the pages in the order of the site's navigation: what a later one needs, an earlier one has made."""
    listed = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    names = re.findall(r"[\w/-]+\.md", str(listed))
    return [f"docs/{name}" for name in names if (ROOT / "docs" / name).is_file()]


def shortened(project, stage, words):
    """Make a line of the documentation a matter of seconds."""
    known = options_in(COMMANDS[stage])
    if "epochs" not in known:
        return words
    more = [word for option, value in SMALL.items() if option in known for word in (f"--{option}", value)]
    if known["teacher"].default and "--teacher" not in words:
        more += ["--teacher", project.weights]
    return [*words, *RECIPE, *more]


def registered(project):
    """Return the name of the model that the tutorial's first command has registered."""
    names = {name for name, _ in project.versions() if "-reviews-" in name and not name.endswith("-teacher")}
    return min(names, default=PLACEHOLDER)


def test_the_marked_blocks_run_in_the_order_of_the_site(project):
    (project.folder / "studies").symlink_to(REPOSITORY / "studies")
    rows = write_rows(project.folder / "data" / "reviews.csv", 160, seed=7)
    rows.write_text(rows.read_text(encoding="utf-8").replace("text,label", "review,stars", 1), encoding="utf-8")
    ran = 0
    for page in pages():
        for block, words in command_lines(page):
            if block.is_run:
                model = registered(project)
                stage, given = entry_point([word.replace(PLACEHOLDER, model) for word in words])
                done = project.run(stage, *shortened(project, stage, given))
                assert done.code == 0, f"{page}: {' '.join(words)}\n{done.err[-3000:]}"
                ran += 1
        for block in blocks(ROOT / page):
            if block.is_run and block.language == "python":
                code = block.text.replace(PLACEHOLDER, registered(project))
                done = subprocess.run(
                    [sys.executable, "-c", code], cwd=project.folder, env=project.env, capture_output=True, text=True
                )
                assert done.returncode == 0, done.stderr[-3000:]
                assert "label" in done.stdout
                ran += 1
    assert ran > 5
    assert {block.page for block in blocks() if block.is_run} <= {*pages()}
    assert project.running() == []
