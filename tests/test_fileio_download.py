"""A file arrives whole or not at all, whatever the server does; what came is continued."""

import hashlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fileio import download, lock
from fileio.download import fetch_file
from fileio.errors import Damaged, NoRoom, Unavailable
from tests.file_server import CUT, Server

CONTENT = os.urandom(3 * CUT)
SHA256, MD5 = (hashlib.new(kind, CONTENT).hexdigest() for kind in ("sha256", "md5"))
LATER = [f"bytes={CUT}-", f"bytes={2 * CUT}-"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    server.files["file.bin"] = CONTENT
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder" / "file.bin"


def fetched(target: Path, content: bytes = CONTENT) -> bool:
    """The file is right, and nothing lies beside it."""
    return target.read_bytes() == content and os.listdir(target.parent) == [target.name]


def ranges(server: Server) -> list[str | None]:
    return [wanted for _, wanted in server.log]


def begun(target: Path, content: bytes) -> Path:
    """A part file as an earlier call left it."""
    target.parent.mkdir(parents=True)
    part = target.with_name("file.bin.part")
    part.write_bytes(content)
    return part


def cut_off(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str = "cut") -> None:
    """Makes a call that gets the first bytes alone."""
    with monkeypatch.context() as patch:
        patch.setattr(download, "ATTEMPTS", 1)
        with pytest.raises(Unavailable, match="ended early after 3.00kB"):
            fetch_file(server.url(behaviour, "file.bin"), target)
    server.log.clear()


@pytest.mark.parametrize("digests", [{}, {"sha256": SHA256}, {"md5": MD5}])
def test_a_cut_transfer_is_continued(digests: dict[str, str], server: Server, target: Path) -> None:
    fetch_file(server.url("cut", "file.bin"), target, **digests)
    assert fetched(target)
    assert ranges(server) == [None, *LATER]


@pytest.mark.parametrize("behaviour", ["untagged", "whole_cut"])
def test_a_server_without_tags_or_without_ranges_will_do(
    behaviour: str, server: Server, target: Path
) -> None:
    fetch_file(server.url(behaviour, "file.bin"), target)
    assert fetched(target)
    assert ranges(server) == [None, LATER[0]]


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [("cut", LATER), ("dated", LATER), ("weak", [None, LATER[0]]), ("untagged", [None, LATER[0]])],
)
def test_a_later_call_continues_what_is_surely_the_same_version(
    behaviour: str, expected: list, server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(server, target, monkeypatch, behaviour)
    fetch_file(server.url(behaviour, "file.bin"), target)
    assert fetched(target)
    assert ranges(server) == expected


def test_a_later_call_does_not_mix_versions_or_addresses(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(server, target, monkeypatch)
    server.files["file.bin"] = os.urandom(3 * CUT)
    cut_off(server, target, monkeypatch)
    fetch_file(server.url("good", "file.bin"), target)
    assert fetched(target, server.files["file.bin"])
    assert ranges(server) == [None]


def test_with_a_digest_any_address_continues_what_another_one_began(server: Server, target: Path) -> None:
    begun(target, CONTENT[:1000])
    fetch_file(server.url("good", "file.bin"), target, sha256=SHA256)
    assert fetched(target)
    assert ranges(server) == ["bytes=1000-"]


@pytest.mark.parametrize(
    ("part", "requests"),
    [(b"of some other file", 2), (CONTENT + b"too long", 2), (b"x" * len(CONTENT), 2), (CONTENT, 1)],
    ids=["another file's", "too long", "of that length", "complete"],
)
def test_a_part_that_does_not_fit_is_started_over(
    part: bytes, requests: int, server: Server, target: Path
) -> None:
    begun(target, part)
    fetch_file(server.url("good", "file.bin"), target, sha256=SHA256)
    assert fetched(target)
    assert len(server.log) == requests


def test_a_server_without_ranges_overwrites_a_longer_part(server: Server, target: Path) -> None:
    begun(target, CONTENT + b"too long")
    fetch_file(server.url("whole_cut", "file.bin"), target, md5=MD5)
    assert fetched(target)


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("dead", "HTTP 404"),
        ("page", "it sends a web page instead of the file"),
        ("empty", "the connection ended early after 0.00B"),
        ("wrong", f"file.bin has the SHA-256 [0-9a-f]{{64}} instead of {SHA256}"),
    ],
)
def test_what_a_server_does_wrong_is_said_in_one_line(
    behaviour: str, said: str, server: Server, target: Path
) -> None:
    with pytest.raises(Unavailable, match=f"^{said}$") as caught:
        fetch_file(server.url(behaviour, "file.bin"), target, sha256=SHA256)
    assert isinstance(caught.value, Damaged) == (behaviour == "wrong")
    if behaviour == "empty":
        assert sorted(os.listdir(target.parent)) == ["file.bin.part", "file.bin.part.from"]
    else:
        assert os.listdir(target.parent) == []


def test_another_range_than_the_one_asked_for_is_refused(server: Server, target: Path) -> None:
    begun(target, CONTENT[:1000])
    with pytest.raises(Unavailable, match="another range"):
        fetch_file(server.url("shifted", "file.bin"), target, md5=MD5)


def test_a_host_that_does_not_answer_is_named(server: Server, target: Path) -> None:
    with pytest.raises(Unavailable, match="^no connection$"):
        fetch_file("http://127.0.0.1:9/file.bin", target)


def test_connections_that_go_on_breaking_come_to_an_end(server: Server, target: Path) -> None:
    server.files["file.bin"] = os.urandom(20 * CUT)
    with pytest.raises(Unavailable, match="ended early after 30.0kB$"):
        fetch_file(server.url("cut", "file.bin"), target)
    assert len(server.log) == 10


def test_a_file_that_does_not_fit_on_the_disk_is_not_begun(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(target, CONTENT[:1000])
    monkeypatch.setattr(download, "free", lambda folder: 100)
    with pytest.raises(NoRoom, match=r"file.bin.part.*8.00kB more are needed; 100B are free.*make room"):
        fetch_file(server.url("good", "file.bin"), target, md5=MD5)
    assert target.with_name("file.bin.part").read_bytes() == CONTENT[:1000]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_write_that_fails_means_a_full_disk(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("file.bin.part").symlink_to("/dev/full")
    with pytest.raises(NoRoom, match="No space left"):
        fetch_file(server.url("good", "file.bin"), target)


def test_calls_that_start_together_fetch_the_file_once(server: Server, target: Path) -> None:
    """File locks hold between open files, so threads stand for processes."""
    with ThreadPoolExecutor(4) as pool:
        url = server.url("slow", "file.bin")
        list(pool.map(lambda _: fetch_file(url, target, sha256=SHA256), range(4)))
    assert fetched(target)
    assert ranges(server) == [None]


def test_without_file_locks_each_process_has_a_part_of_its_own(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    part = begun(target, b"of another process")
    fetch_file(server.url("good", "file.bin"), target)
    assert target.read_bytes() == CONTENT
    assert part.read_bytes() == b"of another process"
    assert sorted(os.listdir(target.parent)) == ["file.bin", "file.bin.part"]


def test_plain_lines_instead_of_bars_where_there_is_no_terminal(
    server: Server, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        fetch_file(server.url("good", "file.bin"), target)
    assert any("file.bin" in line and "B/s" in line for line in caplog.messages)
