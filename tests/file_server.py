"""A server of files on 127.0.0.1 that misbehaves as real ones do."""

import hashlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

CUT = 3000  # bytes
DATE = "Fri, 02 Jan 2026 00:00:00 GMT"
ONCE = ("untagged", "weak", "dated", "whole_cut")  # they cut their first answer

# What the first folder of an address says of the answer; any other name: 404.
BEHAVIOURS = {
    "good": "with ranges and an ETag",
    "slow": "the same, after a moment",
    "hub": "the same, with what Hugging Face says of a file",
    "cut": "the same, at most 3,000 bytes a connection",
    "empty": "announced, but nothing comes",
    "untagged": "with ranges, without an ETag, the first answer of 3,000 bytes alone",
    "weak": "the same with an ETag of equivalent versions",
    "dated": "the same with a date",
    "whole": "without ranges",
    "whole_cut": "without ranges, the first answer of 3,000 bytes alone",
    "shifted": "another range than the one asked for",
    "wrong": "other bytes",
    "page": "a web page",
}


class Server(ThreadingHTTPServer):
    """Serves ``files``; the first folder of an address says how."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.log: list[tuple[str, str | None]] = []  # (path, Range header) of every request
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, behaviour: str = "good", path: str = "") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{behaviour}" + (f"/{path}" if path else "")


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        _, behaviour, path = unquote(self.path).split("/", 2)
        wanted = self.headers.get("Range")
        self.server.log.append((f"{behaviour}/{path}", wanted))
        content = self.server.files.get(path)
        if content is None or behaviour not in BEHAVIOURS:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            if behaviour == "hub":
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        if behaviour == "wrong":
            content = bytes(255 - byte for byte in content)
        if behaviour in ("weak", "dated"):
            tag = f"W/{tag}"
        version = DATE if behaviour == "dated" else tag
        ranges = not behaviour.startswith("whole") and self.headers.get("If-Range", version) == version
        first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and ranges else 0
        if first and first >= len(content):
            self.send_error(416)
            return
        body = content[first:]
        self.send_response(206 if first else 200)
        self.send_header("Content-Type", "text/html" if behaviour == "page" else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        if first:
            start = 0 if behaviour == "shifted" else first
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if behaviour != "untagged":
            self.send_header("ETag", tag)
        if behaviour == "dated":
            self.send_header("Last-Modified", DATE)
        if behaviour == "hub":
            self.send_header("X-Repo-Commit", "c" * 40)
        self.end_headers()
        if behaviour == "slow":
            time.sleep(0.3)
        if behaviour == "empty":
            body = b""
        if behaviour == "cut" or (behaviour in ONCE and len(self.server.log) == 1):
            body = body[:CUT]
        if self.command == "GET":
            self.wfile.write(body)
