"""What a run's folder says: its record `results.json`, or Dassl's log as the whole CoOp family writes it.

A record counts before a log, for its precision. Of `log.txt` and its re-runs `log.txt-<date>` the newest
finished one counts. A log of this repository's train.py counts only with its record.
"""

import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# "Finished" stands in logs of an older Dassl; MaPLe's and PromptSRC's scripts look for it.
END_OF_TRAINING = re.compile(r"^\s*(Finish(?:ed)? training)\s*$", re.MULTILINE)
RESULT = re.compile(r"^\s*(=> result)", re.MULTILINE)
# In each log of our train.py. Several evaluations may follow, and the log does not tell which is the last.
OURS = re.compile(r"^VLM-HeBA: a run is finished", re.MULTILINE)
EPOCH = re.compile(r"^epoch \[(\d+/\d+)\]", re.MULTILINE)
HEAD = 20_000  # letters; arguments and configuration take some 7,000
# What the head of a log tells: arguments, then the merged configuration.
EVAL_ONLY = re.compile(r"^eval_only: (True|False)", re.MULTILINE)
CLASSES = re.compile(r"^ +SUBSAMPLE_CLASSES: (\w+)", re.MULTILINE)
SHOTS = re.compile(r"^ +NUM_SHOTS: (-?\d+)", re.MULTILINE)
MODEL_DIR = re.compile(r"^model_dir: (\S+)", re.MULTILINE)
TRAINER = re.compile(r"^trainer: (\S+)", re.MULTILINE)
BACKBONE = re.compile(r"^ +BACKBONE:\n +NAME: (\S+)", re.MULTILINE)

COSTS = ("parameters", "train_seconds", "test_seconds", "memory")
STILL_WARM = 15 * 60  # seconds: a log written since then may belong to a process that is running


@dataclass
class Run:
    """One seed's run, or what one of its files says. Without a value it is not counted; `why` tells why."""

    folder: Path
    file: Path | None = None
    value: float | None = None  # percent
    why: str = ""
    is_test: bool = False  # a test (--eval-only), not a training run
    classes: str = ""  # DATASET.SUBSAMPLE_CLASSES: all, base, new; "" if the file does not say
    shots: int | None = None  # DATASET.NUM_SHOTS
    trainer: str = ""
    backbone: str = ""
    model_dir: str = ""  # of the evaluated model
    other: dict[str, float] = field(default_factory=dict)  # the value under other settings, e.g. base_scale
    notes: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)  # the whole of results.json


def read_results(path: Path, keyword: str) -> Run:
    """Reads results.json. Our train.py writes it last of all: where it is, a run has finished."""
    run = Run(path.parent, path)
    key = {"error": "error_rate"}.get(keyword, keyword)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        run.is_test = bool(content.get("eval_only"))
        run.classes, run.trainer, run.backbone, run.model_dir = (
            str(content.get(name) or "") for name in ("subsample_classes", "trainer", "backbone", "model_dir")
        )
        run.shots = content.get("shots")
        run.other = {name: float(o[key]) for name, o in (content.get("other") or {}).items() if key in o}
        value = float(content[key])
        run.value, run.why = (value, "") if math.isfinite(value) else (None, f"{key} is {value}")
        run.record = content
    except KeyError:
        run.why = f"no {key!r} in it"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        run.why = f"cannot be read ({error})"
    return run


def read_log(path: Path, keyword: str, as_test: bool) -> Run:
    """Reads one of Dassl's logs. The last value counts, of a training run only what follows its end.

    Args:
        path: `log.txt` or a re-run's `log.txt-<date>`.
        keyword: which number, as in the log's line `* accuracy: 84.2%`.
        as_test: whether to take it as a test's log if it does not tell (its `eval_only` line is missing).
    """
    run = Run(path.parent, path, is_test=as_test)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        run.why = f"cannot be read ({error.strerror})"
        return run
    head = text[:HEAD]
    if told := EVAL_ONLY.search(head):
        run.is_test = told[1] == "True"
    run.classes, run.model_dir, run.trainer, run.backbone = (
        told[1] if (told := pattern.search(head)) else ""
        for pattern in (CLASSES, MODEL_DIR, TRAINER, BACKBONE)
    )
    if told := SHOTS.search(head):
        run.shots = int(told[1])
    ours = first_line(text, "VLM-HeBA", OURS)
    if ours:
        end = None
    elif run.is_test:
        end = first_line(text, "=> result", RESULT)
    else:
        end = first_line(text, "Finish", END_OF_TRAINING)
    number = rf"\* {re.escape(keyword)}: (-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)%"
    values = re.findall(number, text[end.end() :]) if end else []
    if values:
        run.value = float(values[-1])
    elif end:
        run.why = f'no "* {keyword}: …%" after "{end[1]}"'
    elif not text.strip():
        run.why = "empty"
    elif ours and path.with_name("results.json").exists():
        run.why = "counts only by its results.json"
    else:
        epochs = EPOCH.findall(text)
        missing = "results.json" if ours else '"=> result"' if run.is_test else '"Finish training"'
        run.why = f"{how_it_ended(path)}, no {missing}" + (f", last epoch {epochs[-1]}" if epochs else "")
    return run


def first_line(text: str, word: str, pattern: re.Pattern) -> re.Match | None:
    """The first match of a pattern for whole lines that have the word in them; fast where none has."""
    at = text.find(word)
    return pattern.search(text, text.rfind("\n", 0, at) + 1) if at >= 0 else None


def how_it_ended(log: Path) -> str:
    """What can be told of a run without an end: crashed with which error, perhaps running, or cut."""
    written = log.stat().st_mtime
    saved = log.with_name("traceback.txt")  # of our train.py
    if saved.is_file() and saved.stat().st_mtime >= written - 5:
        lines = saved.read_text(encoding="utf-8", errors="replace").split("\n")
        error = next((line for line in reversed(lines) if line.strip()), "")
        return f"crashed ({error.strip()[:200]})"
    age = time.time() - written
    return f"running, or crashed {age:.0f} s ago" if age < STILL_WARM else "crashed or cut"


def run_files(folder: Path) -> list[Path]:
    """The files that tell of the runs in a seed's folder: results.json, then the logs, newest first."""
    logs = [path for path in folder.glob("log.txt*") if re.fullmatch(r"log\.txt(-[\d-]+)?", path.name)]
    results = folder / "results.json"
    return [results] * results.is_file() + sorted(logs, reverse=True)


def read_folder(folder: Path, keyword: str, want_test: bool) -> Run:
    """Reads a seed's folder: its best file of a finished test, or of a finished training run."""
    passed_over = []
    for path in run_files(folder):
        is_json = path.name == "results.json"
        run = read_results(path, keyword) if is_json else read_log(path, keyword, want_test)
        if run.value is not None and run.is_test == want_test:
            run.notes = [f"{why}; {path.name} is used" for why in passed_over]
            return run
        passed_over.append(f"{path.name}: {run.why or ('a test' if run.is_test else 'a training run')}")
    if (folder / "resume.pth.tar").is_file():
        passed_over.append("resume.pth.tar is there: the same command goes on from it")
    return Run(folder, why="; ".join(passed_over) or "no log.txt and no results.json")


def read_seeds(folders: Sequence[Path], keyword: str, want_test: bool) -> list[Run]:
    """Reads the seeds of an experiment: their tests if `want_test`, else their training runs.

    If none of these has finished, finished ones of the other kind count: nothing can be confused then.
    """
    wanted = [read_folder(folder, keyword, want_test) for folder in folders]
    if all(run.value is None for run in wanted):
        others = [read_folder(folder, keyword, not want_test) for folder in folders]
        if any(run.value is not None for run in others):
            return others
    return wanted


def cost(record: dict[str, Any]) -> dict[str, float]:
    """What a run took, as far as its record tells.

    Returns:
        Of `COSTS`: `parameters` (trained weights), `train_seconds` (all sessions of a resumed run),
        `test_seconds`, and `memory` (peak bytes, of the GPU if it ran on one, else of the process).
    """
    phases = record.get("phases") or {}
    found: dict[str, float] = {}
    if record.get("trainable_parameters") is not None:
        found["parameters"] = record["trainable_parameters"]
    for name in ("train", "test"):
        if (phase := phases.get(name)) and phase.get("seconds") is not None:
            found[f"{name}_seconds"] = phase["seconds"] + phase.get("seconds_before", 0)
    for name in ("peak_gpu_memory", "peak_memory"):
        peaks = [phase[name] for phase in phases.values() if phase.get(name)]
        if peaks:
            return found | {"memory": max(peaks)}
    return found
