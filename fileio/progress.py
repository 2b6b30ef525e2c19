"""A progress bar with rates on a terminal, a plain line now and then in a log file."""

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

logger = logging.getLogger(__name__)
EVERY = 30.0  # seconds between two plain lines


class Progress:
    """Counts bytes: ``with Progress("photos.zip", total) as bar: bar.update(n)``.

    Args:
        title: what is being worked on.
        total: bytes in all, if known.
        done: bytes that were there before.
    """

    def __init__(self, title: str, total: int | None = None, done: int = 0) -> None:
        self.title, self.total, self.done, self.first = title, total, done, done
        self.start = self.last = time.monotonic()
        terminal = sys.stderr.isatty()
        options = {"unit": "B", "unit_scale": True, "leave": False, "disable": not terminal}
        self.bar = tqdm(total=total, initial=done, desc=title, **options)

    def update(self, count: int) -> None:
        """``count`` more bytes are done."""
        self.done += count
        self.bar.update(count)
        now = time.monotonic()
        if self.bar.disable and now - self.last >= EVERY:
            self.last = now
            logger.info("%s: %s", self.title, self)

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self.start, 1e-3)
        of = f" of {size(self.total)}" if self.total else ""
        return f"{size(self.done)}{of}, {size((self.done - self.first) / seconds)}/s"

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        if kind is None:
            logger.info("%s: %s", self.title, self)


def size(count: float) -> str:
    """A number of bytes as people read it: ``1.5 GB``."""
    return tqdm.format_sizeof(count, "B")
