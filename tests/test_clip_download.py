"""Weight files come from the first host that delivers them, and are checked."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import clip
from clip import download
from tests.file_server import Server

CONTENT = os.urandom(9000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def url(server: Server, behaviour: str, sha256: str = SHA256) -> str:
    return server.url(behaviour, f"{sha256}/tiny.pt")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    server.files[f"{SHA256}/tiny.pt"] = CONTENT
    yield server
    server.shutdown()
    server.server_close()


def fetched(path: str, root: Path) -> bool:
    """The file is right, and nothing but the note of its checksum lies beside it."""
    left = {file.name for file in root.iterdir()}
    return Path(path).read_bytes() == CONTENT and left == {"tiny.pt", "tiny.pt.sha256ok"}


def test_fetches_once_and_remembers(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "new" / "folder"
    path = clip._download(url(server, "good"), root)
    assert path == str(root / "tiny.pt")
    assert fetched(path, root)
    monkeypatch.setattr(download, "file_digest", None)  # not computed a second time
    assert clip._download(url(server, "good"), str(root)) == path
    assert server.log == [(f"good/{SHA256}/tiny.pt", None)]


def test_default_folder_is_clip_cache(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CLIP_CACHE", str(tmp_path / "a"))
    assert clip._download(url(server, "good")) == str(tmp_path / "a" / "tiny.pt")
    monkeypatch.delenv("CLIP_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert clip._download(url(server, "good")) == str(tmp_path / ".cache" / "clip" / "tiny.pt")


@pytest.mark.parametrize("first", ["dead", "wrong", "empty"])
def test_next_source_is_tried(first: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    prefix = url(server, first).split(SHA256)[0]
    monkeypatch.setitem(download.MIRRORS, prefix, (url(server, "good").split(SHA256)[0],))
    assert fetched(clip._download(url(server, first), tmp_path), tmp_path)
    assert server.log[-1][0].startswith("good/")


def test_openai_addresses_have_a_second_source():
    url = clip._MODELS["ViT-B/16"]
    first, second = download._sources(url)
    assert first == url
    assert second.startswith("https://openaipublic.blob.")
    assert second.endswith("/ViT-B-16.pt")


def test_error_lists_every_source_with_its_reason(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mirrors = tuple(url(server, kind).split(SHA256)[0] for kind in ("wrong", "empty"))
    closed = "http://127.0.0.1:9/closed/"
    monkeypatch.setitem(download.MIRRORS, url(server, "dead").split(SHA256)[0], (*mirrors, closed))
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        clip._download(url(server, "dead"), tmp_path)
    message = str(caught.value)
    for piece in (
        "404",
        "has the SHA-256",
        "ended early after 0.00B",
        "no connection",
        str(tmp_path / "tiny.pt"),
        SHA256,
    ):
        assert piece in message
    assert "\n" not in message
    assert not (tmp_path / "tiny.pt").exists()


def test_file_with_wrong_checksum_is_named_and_replaced(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "tiny.pt").write_bytes(b"old")
    assert fetched(clip._download(url(server, "good"), tmp_path), tmp_path)
    assert str(tmp_path / "tiny.pt") in caplog.text


def test_file_with_wrong_checksum_stays_while_nothing_better_comes(server: Server, tmp_path: Path):
    (tmp_path / "tiny.pt").write_bytes(b"old")
    with pytest.raises(OSError, match="404"):
        clip._download(url(server, "dead"), tmp_path)
    assert (tmp_path / "tiny.pt").read_bytes() == b"old"


def test_changed_file_is_noticed_despite_the_note(server: Server, tmp_path: Path):
    path = clip._download(url(server, "good"), tmp_path)
    Path(path).write_bytes(CONTENT[:-1])
    assert fetched(clip._download(url(server, "good"), tmp_path), tmp_path)
    assert len(server.log) == 2


def test_file_put_there_by_hand_needs_no_server_and_no_write_access(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "tiny.pt").write_bytes(CONTENT)
    monkeypatch.setattr(Path, "write_text", lambda *a: (_ for _ in ()).throw(PermissionError("read-only")))
    assert clip._download(f"http://127.0.0.1:9/x/{SHA256}/tiny.pt", tmp_path) == str(tmp_path / "tiny.pt")


def test_unusable_folders_and_addresses_are_errors_that_say_what_to_do(server: Server, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="CLIP_CACHE"):
        clip._download(url(server, "good"), tmp_path / "file")
    (tmp_path / "tiny.pt").mkdir()
    with pytest.raises(OSError, match=r"tiny\.pt is not a file"):
        clip._download(url(server, "good"), tmp_path)
    with pytest.raises(ValueError, match="SHA-256"):
        clip._download(url(server, "good", sha256="latest"), tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_said_and_no_other_host_is_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "tiny.pt.part").symlink_to("/dev/full")
    prefix = url(server, "good").split(SHA256)[0]
    monkeypatch.setitem(download.MIRRORS, prefix, (prefix,))
    with pytest.raises(OSError, match="^no room left for .*tiny.pt.part.* make room"):
        clip._download(url(server, "good"), tmp_path)
    assert len(server.log) == 1
