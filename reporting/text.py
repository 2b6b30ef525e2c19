"""Text from outside: log files in any encoding are decoded, names are printed without control characters."""

import codecs
import errno
import re
from pathlib import Path

MARKS = {  # UTF-32 first: its little-endian mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
# Colours and cursor movements, window titles and links, character sets (`tput sgr0`), two-character escapes.
# All repetitions are bounded or end at the next escape character, so that the search takes linear time.
ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)|[ -/]{1,8}[0-~]|[0-Z\\^-~])"
)
# What `ts`, `docker logs -t` and Python's logging put before a line, and one space.
STAMP = re.compile(
    r"^\[?(?:\d{4}[-/.]\d\d?[-/.]\d\d?[T ]|[A-Z][a-z]{2} [ \d]\d |\d\d?[-/]\d\d?[T ])?"
    r"\d\d?:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[-+]\d\d:?\d\d)?\]?"
    r"(?:[ \t]?(?:[-|:]|\[[\w.:-]{1,40}\]|(?:DEBUG|INFO|WARNING|ERROR)\b)){0,6} ?",
    re.MULTILINE,
)
# Control characters, the marks that turn the direction of writing, what stands for undecodable bytes, and
# two that are no characters: XML, and so an SVG, must not hold them.
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufffe\uffff]"
)
LARGEST_LOG = 2**28  # bytes, 256 MiB: one of ImageNet with a line for each batch is smaller


def read_bytes(path: Path, largest: int) -> bytes:
    """The file's content.

    Args:
        path: a log or a record.
        largest: number of bytes beyond which it can be neither.

    Raises:
        OSError: the file cannot be read, or is larger.
    """
    if path.stat().st_size > largest:
        raise OSError(errno.EFBIG, f"larger than {largest // 2**20} MiB", str(path))
    return path.read_bytes()


def read_text(path: Path) -> str:
    """A log's text without colours, and without time stamps if its first line has one.

    Raises:
        OSError: the file cannot be read, or is too large.
    """
    data = read_bytes(path, LARGEST_LOG)
    text = data.decode(encoding(data), errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    if "\x1b" in text:
        text = ESCAPE.sub("", text)
    text = text.lstrip("\n")
    return STAMP.sub("", text) if STAMP.match(text) else text


def encoding(data: bytes) -> str:
    """The encoding that a file begins with; without a mark, UTF-16 is known by its zero bytes."""
    for mark, name in MARKS.items():
        if data.startswith(mark):
            return name
    start = data[:2000]
    for name, high in (("utf-16-le", start[1::2]), ("utf-16-be", start[::2])):
        if high and high.count(0) > 0.9 * len(high) and start.count(0) < 0.6 * len(start):
            return name
    return "utf-8"


def visible(text: object) -> str:
    """The text with control characters written out, as `\\x1b`: a terminal obeys nothing in it."""

    def written(match: re.Match) -> str:
        code = ord(match[0])
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return UNSEEN.sub(written, str(text))


def visible_lines(text: str) -> str:
    """As `visible`, line by line."""
    return "\n".join(map(visible, text.split("\n")))
