"""A run's log: what is printed and logged while the run goes on also goes to ``log.txt``."""

import contextlib
import logging
import sys
from collections.abc import Iterator

from command_line import Output
from dassl.utils import setup_logger


class Kept(Output):
    """stdout that stays open: the original Dassl's log closes the stream that it was given."""

    def close(self) -> None:
        with contextlib.suppress(ValueError):  # it may be closed already
            self.flush()


@contextlib.contextmanager
def run_log(folder: str) -> Iterator[None]:
    """Lets Dassl keep ``<folder>/log.txt`` inside the block: what is printed, and logged from INFO up.

    Dassl replaces ``sys.stdout`` for good. After the block that, the root logger's handlers and its level are
    the caller's again.
    """
    root = logging.getLogger()
    console, handlers, level, disabled = sys.stdout, root.handlers[:], root.level, root.manager.disable
    sys.stdout = log = Kept(console)
    try:
        setup_logger(folder)
        log = sys.stdout
        if not any(type(handler).__module__.startswith("dassl.") for handler in root.handlers):
            # The original Dassl prints; its data sets of WILDS turn logging off for the whole process.
            root.addHandler(logging.StreamHandler(log))
            root.setLevel(logging.INFO)
            logging.disable(logging.NOTSET)
        yield
    finally:
        sys.stdout = console
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.disable(disabled)
        log.close()
