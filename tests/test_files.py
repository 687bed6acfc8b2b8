"""Files that survive a process being killed, and a folder that only one process holds."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap

import pytest

from merge_gym.files import (
    FolderLock,
    JsonLines,
    read_json,
    read_lines,
    replacing,
    write_json,
    write_text,
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


def test_what_is_written_is_there_alone_and_as_readable_as_any_file(file):
    write_text(file, "ü")
    write_text(file, "one\n")
    plain = file.with_name("plain")
    plain.write_text("")
    assert file.read_text(encoding="utf-8") == "one\n"
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert sorted(file.parent.iterdir()) == [file, plain]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(file):
    write_text(file, "old")

    def fail():
        with replacing(file) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]


def test_json_comes_back_and_what_is_none_is_refused_by_name(file):
    write_json(file, {"a": [1, None]})
    assert read_json(file) == {"a": [1, None]}
    for bad in (b"{", b"\xff", b"[" * 100_000):
        file.write_bytes(bad)
        with pytest.raises(ValueError, match=f"{file} is not JSON"):
            read_json(file)


def write_lines(file, entries, fresh=False):
    lines = JsonLines(file, fresh)
    for entry in entries:
        lines.append(entry)
    lines.close()
    return lines.entries


def test_lines_are_appended_to_and_read_back(file):
    assert write_lines(file, [{"a": 1}]) == []
    assert write_lines(file, [{"b": "ü\n"}]) == [{"a": 1}]
    assert read_lines(file) == [{"a": 1}, {"b": "ü\n"}]
    assert write_lines(file, [{"c": 3}], fresh=True) == []
    assert read_lines(file) == [{"c": 3}]


def test_a_line_is_there_as_soon_as_it_is_appended(file):
    lines = JsonLines(file)
    lines.append({"a": 1})
    assert read_lines(file) == [{"a": 1}]
    lines.close()


def test_a_torn_last_line_makes_room_for_the_next(file):
    write_lines(file, [{"a": 1}, {"b": 2}])
    file.write_bytes(file.read_bytes()[:-3])
    assert write_lines(file, [{"c": 3}]) == [{"a": 1}]
    assert read_lines(file) == [{"a": 1}, {"c": 3}]


@pytest.mark.parametrize("damage", [b"{", b"\xff", b"3", b"null", b'{"a":\r1', b"\x00\x85\x0b"])
def test_a_damaged_line_is_left_out_with_a_warning_and_no_other(file, damage, caplog):
    file.write_bytes(b'{"a": 1}\n' + damage + b'\n{"b": 2}\n')
    assert write_lines(file, [{"c": 3}]) == [{"a": 1}, {"b": 2}]
    assert f"line 2 of {file} is damaged" in caplog.text
    assert read_lines(file) == [{"a": 1}, {"b": 2}, {"c": 3}]


HOLD = """
    import sys, time
    from pathlib import Path
    from merge_gym.files import FolderLock
    lock = FolderLock(Path(sys.argv[1]))
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder `held`."""
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path / "held")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_that_another_process_holds_is_refused_as_long_as_it_lives(holder, tmp_path):
    with pytest.raises(ValueError, match="held is in use by another process"):
        FolderLock(tmp_path / "held")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    FolderLock(tmp_path / "held").release()


def test_a_folder_that_was_released_can_be_held_again(tmp_path):
    lock = FolderLock(tmp_path / "new" / "folder")
    with pytest.raises(ValueError, match="in use"):
        FolderLock(tmp_path / "new" / "folder")
    lock.release()
    FolderLock(tmp_path / "new" / "folder").release()
