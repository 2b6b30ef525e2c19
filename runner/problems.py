"""A list of mistakes: all that are found before anything starts."""

import contextlib
from collections.abc import Iterator

from command_line import USAGE_ERROR, describe, fail, say
from reporting.text import visible
from runner.jobs import Job


class Problems:
    """Mistakes, each once, with the jobs that it concerns."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.jobs: dict[str, set[str]] = {}

    def __bool__(self) -> bool:
        return bool(self.texts)

    def add(self, text: str, job: Job | None = None) -> None:
        """Adds a mistake; one that differs from another in the jobs' folders alone is the same."""
        text = " ".join(text.split())
        key = job.alike(text) if job else text
        self.texts.setdefault(key, text)
        if job:
            self.jobs.setdefault(key, set()).add(job.name)

    @contextlib.contextmanager
    def noting(self, before: str = "", job: Job | None = None) -> Iterator[None]:
        """Adds a user's mistake that is found inside the block, and ends the block."""
        try:
            yield
        except Exception as error:
            text = describe(error)
            if not text:
                raise
            self.add(before + text, job)

    def report(self) -> int:
        """Says all of it on stderr; returns the exit status."""
        lines = []
        for key, text in self.texts.items():
            jobs = self.jobs.get(key, ())
            more = f" ({len(jobs)} jobs)" if len(jobs) > 1 else ""
            lines.append(f"{visible(text)}{more}")
        if len(lines) == 1:
            return fail(lines[0])
        fail(f"{len(lines)} mistakes, nothing was started:")
        for line in lines:
            say(f"  - {line}")
        return USAGE_ERROR
