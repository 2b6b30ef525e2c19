"""Weight files arrive whole or not at all, whatever the server does."""

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import clip
from clip import download
from fileio import lock

CONTENT = os.urandom(3 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT on 127.0.0.1; the first folder of the address says how badly."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.log: list[tuple[str, str | None]] = []  # (behaviour, Range header) of every request

    def url(self, behaviour: str, sha256: str = SHA256) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{behaviour}/{sha256}/tiny.pt"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        behaviour, wanted = self.path.split("/")[1], self.headers.get("Range")
        self.server.log.append((behaviour, wanted))
        if behaviour == "dead":
            self.send_error(404)
            return
        first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and behaviour != "norange" else 0
        if first >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[first:] if behaviour != "wrong" else b"x" * len(CONTENT[first:])
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(body)))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        if behaviour == "cutting":  # at most 1 MiB per connection
            body = body[: 1 << 20]
        elif behaviour == "empty":
            body = b""
        elif behaviour == "norange" and len(self.server.log) == 1:
            body = body[: 1 << 20]
        elif behaviour == "slow":
            time.sleep(0.3)
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def fetched(path: str, root: Path) -> bool:
    """The file is right, and nothing but the note of its checksum lies beside it."""
    left = {file.name for file in root.iterdir()}
    return Path(path).read_bytes() == CONTENT and left == {"tiny.pt", "tiny.pt.sha256ok"}


def test_fetches_once_and_remembers(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "new" / "folder"
    path = clip._download(server.url("good"), root)
    assert path == str(root / "tiny.pt")
    assert fetched(path, root)
    monkeypatch.setattr(download, "file_digest", None)  # not computed a second time
    assert clip._download(server.url("good"), str(root)) == path
    assert server.log == [("good", None)]


def test_default_folder_is_clip_cache(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CLIP_CACHE", str(tmp_path / "a"))
    assert clip._download(server.url("good")) == str(tmp_path / "a" / "tiny.pt")
    monkeypatch.delenv("CLIP_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert clip._download(server.url("good")) == str(tmp_path / ".cache" / "clip" / "tiny.pt")


def test_continues_after_each_cut(server: Server, tmp_path: Path):
    assert fetched(clip._download(server.url("cutting"), tmp_path), tmp_path)
    assert server.log == [
        ("cutting", None),
        ("cutting", f"bytes={1 << 20}-"),
        ("cutting", f"bytes={2 << 20}-"),
    ]


def test_continues_a_part_file_of_an_earlier_run(server: Server, tmp_path: Path):
    (tmp_path / "tiny.pt.part").write_bytes(CONTENT[:1000])
    assert fetched(clip._download(server.url("good"), tmp_path), tmp_path)
    assert server.log == [("good", "bytes=1000-")]


@pytest.mark.parametrize(
    "part",
    [b"of some other file", CONTENT + b"too long", b"x" * len(CONTENT)],
    ids=["another file's", "too long", "of that length"],
)
def test_useless_part_file_is_started_over(part: bytes, server: Server, tmp_path: Path):
    (tmp_path / "tiny.pt.part").write_bytes(part)
    assert fetched(clip._download(server.url("good"), tmp_path), tmp_path)
    assert len(server.log) == 2


def test_complete_part_file_is_taken(server: Server, tmp_path: Path):
    (tmp_path / "tiny.pt.part").write_bytes(CONTENT)
    assert fetched(clip._download(server.url("good"), tmp_path), tmp_path)


def test_server_without_ranges_overwrites_the_part_file(server: Server, tmp_path: Path):
    (tmp_path / "tiny.pt.part").write_bytes(CONTENT + b"too long")
    assert fetched(clip._download(server.url("norange"), tmp_path), tmp_path)
    assert [behaviour for behaviour, _ in server.log] == ["norange", "norange"]


@pytest.mark.parametrize("first", ["dead", "wrong", "empty"])
def test_next_source_is_tried(first: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    prefix = server.url(first).split(SHA256)[0]
    monkeypatch.setitem(download.MIRRORS, prefix, (server.url("good").split(SHA256)[0],))
    assert fetched(clip._download(server.url(first), tmp_path), tmp_path)
    assert server.log[-1][0] == "good"


def test_openai_addresses_have_a_second_source():
    url = clip._MODELS["ViT-B/16"]
    first, second = download._sources(url)
    assert first == url
    assert second.startswith("https://openaipublic.blob.")
    assert second.endswith("/ViT-B-16.pt")


def test_error_lists_every_source_with_its_reason(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mirrors = tuple(server.url(kind).split(SHA256)[0] for kind in ("wrong", "empty"))
    closed = "http://127.0.0.1:9/closed/"
    monkeypatch.setitem(download.MIRRORS, server.url("dead").split(SHA256)[0], (*mirrors, closed))
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        clip._download(server.url("dead"), tmp_path)
    message = str(caught.value)
    for piece in (
        "404",
        "another SHA-256",
        "closed after 0 of",
        "refused",
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
    assert fetched(clip._download(server.url("good"), tmp_path), tmp_path)
    assert str(tmp_path / "tiny.pt") in caplog.text


def test_file_with_wrong_checksum_stays_while_nothing_better_comes(server: Server, tmp_path: Path):
    (tmp_path / "tiny.pt").write_bytes(b"old")
    with pytest.raises(OSError, match="404"):
        clip._download(server.url("dead"), tmp_path)
    assert (tmp_path / "tiny.pt").read_bytes() == b"old"


def test_changed_file_is_noticed_despite_the_note(server: Server, tmp_path: Path):
    path = clip._download(server.url("good"), tmp_path)
    Path(path).write_bytes(CONTENT[:-1])
    assert fetched(clip._download(server.url("good"), tmp_path), tmp_path)
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
        clip._download(server.url("good"), tmp_path / "file")
    (tmp_path / "tiny.pt").mkdir()
    with pytest.raises(OSError, match=r"tiny\.pt is not a file"):
        clip._download(server.url("good"), tmp_path)
    with pytest.raises(ValueError, match="SHA-256"):
        clip._download(server.url("good", sha256="latest"), tmp_path)


def test_runs_that_start_together_fetch_the_file_once(server: Server, tmp_path: Path):
    """File locks hold between open files, so threads stand for the processes of several seeds."""
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: clip._download(server.url("slow"), tmp_path), range(4)))
    assert len(set(paths)) == 1
    assert fetched(paths[0], tmp_path)
    assert server.log == [("slow", None)]


def test_without_file_locks_each_process_has_its_own_part(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lock, "fcntl", None)
    (tmp_path / "tiny.pt.part").write_bytes(b"of another process")
    path = clip._download(server.url("good"), tmp_path)
    assert Path(path).read_bytes() == CONTENT
    assert server.log == [("good", None)]
    assert (tmp_path / "tiny.pt.part").read_bytes() == b"of another process"
