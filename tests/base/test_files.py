"""A kept file or folder is there whole or not at all, and is read only where its bytes are those that were written."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from filelock import Timeout

from kd.base import files
from kd.base.files import SEAL, find, home, is_whole, label_of, locked, publish, scratch, stays_whole, write


def kept(folder, label="label", content=b"content"):
    return write(folder, label, ".bin", lambda path: path.write_bytes(content))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_what_was_written_is_found_again_and_nothing_else(tmp_path):
    path = kept(tmp_path, "a-label")
    assert find(tmp_path, "a-label", ".bin") == path
    assert (path.read_bytes(), label_of(path), is_whole(path)) == (b"content", "a-label", True)
    assert find(tmp_path, "a", ".bin") is None
    assert find(tmp_path, "a-label", ".txt") is None
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", [flip, lambda path: os.truncate(path, 3), lambda path: path.write_bytes(b"")])
def test_a_damaged_file_is_not_found_and_the_next_one_takes_its_place(tmp_path, damage):
    damage(kept(tmp_path))
    assert find(tmp_path, "label", ".bin") is None
    path = kept(tmp_path, content=b"other")
    assert list(tmp_path.iterdir()) == [path]


def test_a_whole_file_of_another_label_is_foreign_under_this_one(tmp_path):
    path = kept(tmp_path, "theirs")
    path.rename(path.with_name(path.name.replace("theirs", "mine")))
    assert find(tmp_path, "mine", ".bin") is None


def test_a_writer_that_fails_leaves_nothing_and_the_former_writers_rest_is_no_obstacle(tmp_path):
    (tmp_path / ".label.tmp").write_text("of a killed writer")

    def fail(path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "label", ".bin", fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_what_was_read_once_is_read_again_only_where_it_changed(tmp_path, monkeypatch, folder):
    path = kept(tmp_path)
    if folder:
        with publish(path := tmp_path / "target") as scratch:
            (scratch / "content").write_bytes(b"content")
    assert stays_whole(path)
    looked = []
    look = files.is_whole
    monkeypatch.setattr(files, "is_whole", lambda path: looked.append(path) or look(path))
    assert stays_whole(path)
    assert not looked
    inside = path / "content" if folder else path
    os.truncate(inside, 2)
    assert not stays_whole(path)
    assert looked
    assert not stays_whole(tmp_path / "absent")


def test_a_lock_that_another_has_is_not_waited_for_where_one_may_not_wait(tmp_path):
    with locked(tmp_path / "lock"), pytest.raises(Timeout), locked(tmp_path / "lock", wait=False):
        pass
    with locked(tmp_path / "lock", wait=False):
        pass


def test_what_is_warned_of_again_and_again_is_one_line(caplog):
    for _ in range(3):
        files.warn_once("the disk of this test is full")
    assert caplog.text.count("the disk of this test is full") == 1


# Folders


DAMAGE = {
    "a file changed": lambda folder: flip(folder / "deep" / "one"),
    "a file is gone": lambda folder: (folder / "deep" / "one").unlink(),
    "a file more": lambda folder: (folder / "more").write_text(""),
    "a file renamed": lambda folder: (folder / "deep" / "one").rename(folder / "one"),
    "no checksum": lambda folder: (folder / SEAL).unlink(),
    "a damaged checksum": lambda folder: (folder / SEAL).write_bytes(b"\xff"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_folder_is_found_out_and_the_next_one_takes_its_place(tmp_path, damage):
    target = tmp_path / "target"
    for content in ("1", "2"):
        with publish(target) as scratch:
            (scratch / "deep").mkdir()
            (scratch / "deep" / "one").write_text(content)
        assert is_whole(target)
        assert (target / "deep" / "one").read_text() == content
        damage(target)
        assert not is_whole(target)
    assert {path.name for path in tmp_path.iterdir()} == {"target", ".target.lock"}


def test_a_whole_folder_of_another_name_is_foreign_under_this_one(tmp_path):
    with publish(tmp_path / "theirs") as scratch:
        (scratch / "one").write_text("1")
    shutil.copytree(tmp_path / "theirs", tmp_path / "mine")
    assert not is_whole(tmp_path / "mine")


def test_nothing_is_seen_before_all_of_it_is_there(tmp_path):
    target = tmp_path / "deep" / "target"
    with publish(target) as scratch:
        (scratch / "one").write_text("1")
        assert not target.exists()
        assert scratch.parent == target.parent  # a rename within one file system is one step
    assert (target / "one").read_text() == "1"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_failure_leaves_nothing_behind(tmp_path):
    target = tmp_path / "target"
    with pytest.raises(ZeroDivisionError), publish(target) as scratch:
        (scratch / "one").write_text(f"{1 / 0}")
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_processes_wins_and_the_second_leaves_no_litter(tmp_path):
    target = tmp_path / "target"
    with publish(target) as slow:
        (slow / "one").write_text("slow")
        with publish(target) as quick:
            (quick / "one").write_text("quick")
    assert (target / "one").read_text() == "quick"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_file_in_the_way_is_an_error_and_not_overwritten(tmp_path):
    target = tmp_path / "target"
    target.write_text("something of the user's")
    with pytest.raises(OSError, match="target"), publish(target):
        pass
    assert target.read_text() == "something of the user's"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_home_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("KD_HOME", str(tmp_path / "elsewhere"))
    assert home() == tmp_path / "elsewhere"


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_word_home_is_in_the_users_cache(monkeypatch, tmp_path, value):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KD_HOME") if value is None else monkeypatch.setenv("KD_HOME", value)
    assert home() == Path(tmp_path) / ".cache" / "kd"


@pytest.mark.parametrize("damaged", [False, True])
def test_writers_at_once_leave_one_whole_folder_and_none_fails(tmp_path, damaged):
    target, begun = tmp_path / "made", Barrier(4)

    def make(number):
        with publish(target) as scratch:
            (scratch / "content").write_text(str(number))
            begun.wait()
        return is_whole(target)

    for _ in range(20):
        if damaged:
            target.mkdir(exist_ok=True)
            (target / "content").write_text("other bytes")
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(make, range(4)))
        assert {path.name for path in tmp_path.iterdir()} <= {"made", ".made.lock"}
        if not damaged:
            shutil.rmtree(target)


# What killed processes left


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def killed_in(code):
    """Run Python code in a process that kills itself at its end."""
    code = f"import os, signal\n{code}\nos.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL


def test_the_next_start_removes_what_a_killed_process_left_and_nothing_else(temporary, kd_home, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(temporary))
    (temporary / "kd-mine").mkdir()
    killed_in(
        "import tempfile\n"
        "from kd.base.files import home, publish, scratch\n"
        "opened = [scratch(), publish(home() / 'data' / 'made')]\n"
        "[one.__enter__() for one in opened]\n"
        "tempfile.mkdtemp()"
    )
    assert len([*temporary.iterdir()]) == 2
    assert len([*(kd_home / "data").iterdir()]) == 1
    with scratch(), publish(kd_home / "data" / "other"):
        assert len([*temporary.iterdir()]) == 2
        with scratch():  # another one is there at the same time
            pass
        assert Path(tempfile.gettempdir()).is_dir()
        assert len([*(kd_home / "data").iterdir()]) == 1
    assert [path.name for path in temporary.iterdir()] == ["kd-mine"]
    assert [path.name for path in (kd_home / "data").iterdir()] == ["other"]


def test_temporary_files_of_libraries_are_removed_with_the_process_s_own(temporary):
    with scratch():
        tempfile.mkdtemp()
        tempfile.NamedTemporaryFile(delete=False).close()
    assert [*temporary.iterdir()] == []
    assert tempfile.gettempdir() == str(temporary)


def test_a_folder_that_a_killed_process_was_filling_is_emptied_and_the_user_s_own_is_not(tmp_path):
    folder = tmp_path / "given"
    killed_in(
        "from pathlib import Path\n"
        "from kd.base.files import filling\n"
        f"opened = filling(Path({str(folder)!r}))\n"
        "opened.__enter__()\n"
        f"(Path({str(folder)!r}) / 'half').touch()"
    )
    assert (folder / "half").exists()
    files.empty_left(folder)
    assert [*folder.iterdir()] == []
    with files.filling(folder):
        (folder / "whole").touch()
        files.empty_left(folder)  # by another process: this one is at work
    files.empty_left(folder)
    assert [path.name for path in folder.iterdir()] == ["whole"]


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_whose_filling_fails_is_as_it_was_before(tmp_path, there):
    folder = tmp_path / "given"
    if there:
        folder.mkdir()
    with pytest.raises(FileExistsError), files.filling(folder):
        (folder / ".").touch(exist_ok=False)
    assert folder.exists() == there
    assert not there or not [*folder.iterdir()]
