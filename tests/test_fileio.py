"""Files are whole or absent, a lock ends with its process, and nobody's files are deleted."""

import errno
import hashlib
import logging
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import fileio
from fileio import InUse, atomic_write, exclusive, file_digest, remove_leftovers, unchanged_digest, write_text
from fileio import lock as lock_module
from fileio.atomic import temporary_name
from tests.conftest import ROOT


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_written_file_has_the_permissions_that_the_umask_gives(
    mask: int, mode: int, tmp_path: Path
) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_a_link_stays_and_the_file_that_it_names_is_replaced(tmp_path: Path) -> None:
    elsewhere = tmp_path / "big disk"
    elsewhere.mkdir()
    (elsewhere / "real").write_text("old")
    link = tmp_path / "link"
    link.symlink_to(elsewhere / "real")
    write_text(link, "new")
    assert link.is_symlink()
    assert (elsewhere / "real").read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["big disk", "link", "real"]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match=f'cannot write "{path}": it exists and is not a file'):
            write_text(path, "x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_missing_folder_is_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r'^cannot write ".*gone/a": .*No such file') as refused:
        write_text(tmp_path / "gone" / "a", "x")
    assert "disk full" not in str(refused.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [(OSError(errno.ENOSPC, "No space left on device"), "disk full?"), (OSError("a reader says no"), "")],
)
def test_a_full_disk_keeps_its_number_and_nothing_else_is_called_one(
    tmp_path: Path, error: OSError, said: str
) -> None:
    with pytest.raises(OSError, match="cannot write") as refused, atomic_write(tmp_path / "a"):
        raise error
    assert refused.value.errno == error.errno
    assert ("disk full" in str(refused.value)) == bool(said)


def test_a_file_that_is_not_to_be_replaced_stays(tmp_path: Path) -> None:
    for text in (b"first", b"second"):
        with atomic_write(tmp_path / "a", replace=False) as file:
            file.write(text)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_write(tmp_path / "a") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert not list(tmp_path.iterdir())


def test_two_writers_of_one_file_have_a_file_each_until_it_is_whole(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a") as one, atomic_write(tmp_path / "a") as other:
        assert one.name != other.name
        assert {Path(file.name).parent for file in (one, other)} == {tmp_path}
        one.write(b"one")
    assert (tmp_path / "a").read_bytes() == b"one"


def test_only_unfinished_files_of_the_named_targets_are_removed(tmp_path: Path) -> None:
    ours = temporary_name(tmp_path / "results.json")
    others = [
        temporary_name(tmp_path / "notes.txt"),
        temporary_name(tmp_path / "below" / "results.json"),
        tmp_path / "results.json",
        tmp_path / "results.json.tmp-1",
        tmp_path / ".results.json.tmp",
        tmp_path / "mine.tmp-2024",
    ]
    (tmp_path / "below").mkdir()
    for path in (ours, *others):
        path.touch()
    remove_leftovers(tmp_path, re.compile(r"results\.json|config\.yaml"))
    assert not ours.exists()
    assert all(path.exists() for path in others)


def test_digests_are_those_of_the_content_at_the_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for content in (b"x" * 3_000_000, b"y"):
        path.write_bytes(content)
        assert file_digest(path) == unchanged_digest(path) == hashlib.sha256(content).hexdigest()
    assert file_digest(path, "md5") == hashlib.md5(b"y").hexdigest()


needs_locks = pytest.mark.skipif(lock_module.fcntl is None, reason="no file locks on this system")


@needs_locks
def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    said = rf"^process {os.getpid()} on \S+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d$"
    with exclusive(path) as held:
        assert held
        with pytest.raises(InUse, match=said), exclusive(path):
            pass
    assert not path.exists()
    with exclusive(path):  # and again
        pass


@needs_locks
def test_what_a_killed_holder_left_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 1 on another machine")
    with exclusive(tmp_path / ".lock"):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on")


@needs_locks
def test_a_file_of_the_user_in_the_place_of_a_lock_stays(tmp_path: Path) -> None:
    mine, lock = tmp_path / "notes.txt", tmp_path / ".lock"
    mine.write_text("mine")
    for put in (lambda: lock.symlink_to(mine), lambda: lock.write_text("mine"), lock.mkdir):
        put()
        with (
            pytest.raises(OSError, match="in the way of the lock of that name; move it away"),
            exclusive(lock),
        ):
            pass
        assert mine.read_text() == "mine"
        assert lock.is_dir() or lock.read_text() == "mine"
        lock.rmdir() if lock.is_dir() else lock.unlink()


HOLDER = """
import multiprocessing, os, sys, time
from pathlib import Path
from fileio import exclusive

def work():
    print(os.getpid(), flush=True)
    time.sleep(60)

with exclusive(Path(sys.argv[1])):
    multiprocessing.get_context("fork").Process(target=work).start()
    time.sleep(60)
"""


@needs_locks
def test_workers_of_a_killed_process_do_not_hold_its_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / ".lock")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        worker = int(holder.stdout.readline())
        try:
            with pytest.raises(InUse), exclusive(tmp_path / ".lock"):
                pass
            holder.kill()
            holder.wait()
            os.kill(worker, 0)  # it lives on
            with exclusive(tmp_path / ".lock") as held:
                assert held
        finally:
            os.kill(worker, signal.SIGKILL)


@needs_locks
def test_a_child_that_ends_takes_nothing_of_its_parents_lock(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    try:
        with exclusive(path):
            child = os.fork()
            if not child:
                raise SystemExit
            os.waitpid(child, 0)
            assert path.exists()
            with pytest.raises(InUse), exclusive(path):
                pass
    except SystemExit:
        os._exit(0)


@needs_locks
def test_who_waits_for_a_lock_gets_one_that_excludes_all_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first holder removes the file while the second waits for it, and then a third comes."""
    caplog.set_level(logging.INFO)
    path, held, done = tmp_path / ".lock", threading.Event(), threading.Event()

    def second() -> None:
        with exclusive(path, wait=True):
            held.set()
            done.wait(20)

    with exclusive(path):
        waiter = threading.Thread(target=second)
        waiter.start()
        while "waiting for process" not in caplog.text:
            time.sleep(0.001)
    try:
        assert held.wait(20)
        with pytest.raises(InUse), exclusive(path):
            pass
    finally:
        done.set()
        waiter.join()
    assert not path.exists()


@needs_locks
def test_a_lock_removed_just_before_it_is_taken_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock = tmp_path / ".lock", lock_module.fcntl.flock
    removed = []

    def flock_late(*args: object) -> None:
        if not removed:
            removed.append(path.unlink())  # by its holder, which ends at that moment
        flock(*args)

    monkeypatch.setattr(lock_module.fcntl, "flock", flock_late)
    with exclusive(path), pytest.raises(InUse), exclusive(path):
        pass


@needs_locks
def test_the_lock_of_a_new_owner_of_the_folder_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with exclusive(path):
        path.unlink()  # the user has emptied the folder
        with exclusive(path):
            pass
        path.write_text("of another process")
    assert path.read_text() == "of another process"


def no_locks(*_: object) -> None:
    raise OSError(37, "No locks available")


@pytest.mark.parametrize("kind", ["system", "file system"])
def test_where_files_cannot_be_locked_work_goes_on_with_one_warning(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "system":
        monkeypatch.setattr(lock_module, "fcntl", None)
    else:
        monkeypatch.setattr(lock_module.fcntl, "flock", no_locks)
    for _ in range(2):
        with exclusive(tmp_path / ".lock") as held:
            assert not held
    assert [record.message for record in caplog.records] == [
        f'files in "{tmp_path}" cannot be locked: run one process at a time there'
    ]
    assert not list(tmp_path.iterdir())


def test_it_is_imported_without_what_only_some_of_its_users_have() -> None:
    code = "import sys, fileio; print({'torch', 'yaml', 'safetensors', 'numpy', 'requests'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
    assert Path(fileio.__file__).parent == ROOT / "fileio"
