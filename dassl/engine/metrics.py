"""``metrics.jsonl``: what the log lines of training say, one JSON object a line.

Each line has ``step`` (optimiser steps so far), ``epoch`` and ``batch`` (from 1), what the trainer's step
returns (``loss``, ``acc``, …), ``lr``, and ``time`` and ``data`` (seconds a batch, in all and waiting for
data). Losses and seconds are means since the epoch's start, as in TensorBoard; a number that is not finite is
null. A run that was cut continues the file after its last whole epoch.
"""

import json
import logging
import math
import os
from typing import Any

from fileio import write_text

logger = logging.getLogger(__name__)

FILE_NAME = "metrics.jsonl"


def append(directory: str, row: dict[str, Any]) -> None:
    """Adds a line; where the file cannot be written (a full disk) training goes on without it."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    try:
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, FILE_NAME), "a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")
    except OSError as error:
        logger.warning('"%s" lacks a line: disk full? (%s)', os.path.join(directory, FILE_NAME), error)


def keep_until(directory: str, epoch: int) -> None:
    """Drops the lines after ``epoch``, and one that a killed process left unfinished."""
    path = os.path.join(directory, FILE_NAME)
    if not os.path.isfile(path):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line for line in file if _epoch(line) <= epoch]
    write_text(path, "".join(lines))


def _epoch(line: str) -> float:
    """The epoch of a line; infinity if the line is not whole."""
    try:
        return json.loads(line)["epoch"] if line.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf
