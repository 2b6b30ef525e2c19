"""What a run's folder says: its record `results.json`, or Dassl's log as the whole CoOp family writes it.

A record counts before a log, for its precision. Of `log.txt` and its re-runs `log.txt-<date>` the newest
finished one counts. A log of this repository's train.py counts only with its record.
"""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from reporting import record
from reporting.text import read_bytes, read_text, visible

# "Finished" stands in logs of an older Dassl; MaPLe's and PromptSRC's scripts look for it.
END_OF_TRAINING = re.compile(r"^[ \t]*(Finish(?:ed)? training)[ \t]*$", re.MULTILINE)
ARGUMENTS = "** Arguments **"  # Dassl's first heading, once in each process
ENDS = {False: ("Finish training", "Finished training"), True: ("=> result",)}  # by whether it is a test
RESULT = re.compile(r"^[ \t]*(=> result)", re.MULTILINE)
EVALUATION = re.compile(r"Evaluate on the \*(\w+)\* set")
# In each log of our train.py. Several evaluations may follow, and the log does not tell which is the last.
OURS = re.compile(r"^VLM-HeBA: a run is finished", re.MULTILINE)
EPOCH = re.compile(r"^epoch \[(\d{1,9}/\d{1,9})\]", re.MULTILINE)
NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?")
HEAD = 1000  # lines that are not blank; arguments and configuration take some 300
TAIL = 65_536  # bytes of a traceback, whose last line tells the error
SETTING = re.compile(r"( {0,40})(\w{1,80}):[ \t]*(.*)")  # a line of the arguments, or of the configuration

RUN_FILE = re.compile(r"results\.json|log\.txt(-[0-9-]+)?")
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
    dataset: str = ""  # DATASET.NAME; "" if the file does not say, as for all texts
    seed: int | None = None
    classes: str = ""  # DATASET.SUBSAMPLE_CLASSES: all, base, new
    split: str = ""  # TEST.SPLIT: test, val
    shots: int | None = None  # DATASET.NUM_SHOTS
    trainer: str = ""
    backbone: str = ""
    model_dir: str = ""  # of the evaluated model
    other: dict[str, float] = field(default_factory=dict)  # the value under other settings, e.g. base_scale
    notes: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)  # the whole of results.json


def read_results(path: Path, keyword: str) -> Run:
    """Reads results.json. Our train.py writes it last of all: where it is, a run has finished.

    A record with a value that no program writes is passed by as a whole: nothing in it can be trusted.
    """
    run = Run(path.parent, path)
    key = {"error": "error_rate"}.get(keyword, keyword)
    try:
        content = record.parse(read_bytes(path, record.LARGEST_FILE))
    except (OSError, ValueError) as error:
        run.why = visible(f"cannot be read ({getattr(error, 'strerror', error)})"[:300])
        return run
    try:
        record.check(content)
        run.is_test = bool(content.get("eval_only"))
        run.dataset, run.classes, run.split, run.trainer, run.backbone, run.model_dir = (
            visible(content.get(name) or "")
            for name in ("dataset", "subsample_classes", "split", "trainer", "backbone", "model_dir")
        )
        run.seed, run.shots = content.get("seed"), content.get("shots")
        others = content.get("other") or {}
        run.other = {
            visible(name): record.percent(found[key], key) for name, found in others.items() if key in found
        }
        if key in content:
            run.value, run.record = record.percent(content[key], key), content
        else:
            run.why = f"no {key!r} in it"
    except ValueError as error:
        run.why = visible(str(error)[:300])
    return run


def read_log(path: Path, keyword: str, as_test: bool) -> Run:
    """Reads one of Dassl's logs. The result on the test images counts, in a training run's after its end.

    Args:
        path: `log.txt` or a re-run's `log.txt-<date>`.
        keyword: which number, as in the log's line `* accuracy: 84.2%`.
        as_test: whether to take it as a test's log if it does not tell (its `eval_only` line is missing).
    """
    run = Run(path.parent, path, is_test=as_test)
    try:
        text = read_text(path)
        said = settings(text)
        run.dataset, run.classes, run.split, run.backbone, run.trainer, run.model_dir = (
            visible(record.text(said.get(key, ""), key))
            for key in (
                *("DATASET.NAME", "DATASET.SUBSAMPLE_CLASSES", "TEST.SPLIT", "MODEL.BACKBONE.NAME"),
                *("trainer", "model_dir"),
            )
        )
    except (OSError, ValueError) as error:
        run.why = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else visible(error)
        return run
    if "eval_only" in said:
        run.is_test = said["eval_only"] == "True"
    run.seed, run.shots = whole(said.get("seed", "")), whole(said.get("DATASET.NUM_SHOTS", ""))
    ours = first_line(text, "VLM-HeBA", OURS)
    if ours:
        end = None
    elif run.is_test:
        end = first_line(text, "=> result", RESULT)
    else:
        end = first_line(text, "Finish", END_OF_TRAINING)
    results = results_in(text if run.is_test else text[end.start() :], keyword) if end else []
    if tests := [result for result in results if result[0] not in ("val", "train")]:
        results = tests
    elif results:
        run.split = results[-1][0]
        results = results[-1:]
    numbers = [number for _, number in results]
    if (runs := text.count(ARGUMENTS)) > 1:
        run.why = f"holds the logs of {runs} runs, one after the other"
    elif any(numbers):
        run.why = ambiguity(numbers, said)
        try:
            run.value = None if run.why else record.percent(as_number(numbers[-1]), keyword)
        except ValueError as error:
            run.why = visible(error)
    elif end:
        run.why = visible(f'no "* {keyword}: …%" after "{end[1]}"')
    elif not text.strip():
        run.why = "empty"
    elif ours and path.with_name("results.json").exists():
        run.why = "counts only by its results.json"
    elif not ours and (line := inside_line(ENDS[run.is_test], text)):
        run.why = visible(f'its end stands inside a line: "{line}"; take out what stands before its lines')
    elif "\0" in text:
        run.why = "holds NUL characters: it is damaged, or in two encodings"
    else:
        epochs = EPOCH.findall(text)
        missing = "results.json" if ours else '"=> result"' if run.is_test else '"Finish training"'
        run.why = f"{how_it_ended(path)}, no {missing}" + (f", last epoch {epochs[-1]}" if epochs else "")
    return run


def settings(text: str) -> dict[str, str]:
    """The arguments by name (`seed`) and the configuration by key (`DATASET.NAME`) at a log's beginning."""
    found: dict[str, str] = {}
    outer: list[tuple[int, str]] = []  # indentation and name of the nodes around a line
    for line in islice(filter(str.strip, text.split("\n")), HEAD):
        if not (match := SETTING.fullmatch(line)):
            continue
        depth, name, value = len(match[1]), match[2], match[3].strip()
        while outer and outer[-1][0] >= depth:
            outer.pop()
        if value:
            found.setdefault(".".join([*(node for _, node in outer), name]), value.strip("'\""))
        else:
            outer.append((depth, name))
    return found


def whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d{1,9}", text) else None


def as_number(text: str) -> float | str:
    """The number that a log's text stands for; the text itself if it is none, such as nan."""
    return float(text) if NUMBER.fullmatch(text) else text


def results_in(text: str, keyword: str) -> list[tuple[str, str]]:
    """Each result's number ("" if it has none), and of which set of images ("" if the log does not say)."""
    number = re.compile(rf"\* {re.escape(keyword)}: ([^\s%]*)%")
    found, of = [], ""
    for line in text.split("\n"):
        line = line.strip()
        if match := EVALUATION.match(line):
            of = match[1]
        elif line.startswith("=> result"):
            found.append((of, ""))
        elif match := number.match(line):
            if found and not found[-1][1]:
                found.pop()
            found.append((of, match[1]))
    return found


def ambiguity(numbers: Sequence[str], said: dict[str, str]) -> str:
    """Why it is not told which classes a log's result is of; "" if nothing speaks against it.

    Some codes test the base and then the novel classes after training, in one log.
    """
    if said.get("TRAINER.MODAL") == "base2novel" and said.get("DATASET.SUBSAMPLE_CLASSES") in (None, "all"):
        return "TRAINER.MODAL is base2novel: one log of base and novel classes, it does not tell them apart"
    if len(set(map(as_number, numbers))) > 1:
        shown = ", ".join(f"{number[:20]}%" if number else "none" for number in numbers[:4])
        shown += ", …" * (len(numbers) > 4)
        return f"{len(numbers)} results ({shown}): which classes each is of is not told"
    return ""


def first_line(text: str, word: str, pattern: re.Pattern) -> re.Match | None:
    """The first match of a pattern for whole lines that have the word in them; fast where none has."""
    at = text.find(word)
    return pattern.search(text, text.rfind("\n", 0, at) + 1) if at >= 0 else None


def inside_line(ends: Sequence[str], text: str) -> str:
    """The line in which a run's end stands beside something else, or its part around the end; "" if none."""
    found = [text.find(end) for end in ends if end in text]
    if not found:
        return ""
    at = min(found)
    return text[max(text.rfind("\n", 0, at) + 1, at - 60) : at + 40].partition("\n")[0].strip()


def how_it_ended(log: Path) -> str:
    """What can be told of a run without an end: crashed with which error, perhaps running, or cut."""
    saved = log.with_name("traceback.txt")  # of our train.py
    try:
        written = log.stat().st_mtime
        if saved.is_file() and saved.stat().st_mtime >= written - 5:
            with saved.open("rb") as file:
                file.seek(max(0, saved.stat().st_size - TAIL))
                lines = file.read(TAIL).decode(errors="replace").split("\n")
            error = next((line for line in reversed(lines) if line.strip()), "")
            return f"crashed ({visible(error.strip()[:200])})"
    except OSError:
        return "crashed or cut"
    age = time.time() - written
    return f"running, or crashed {age:.0f} s ago" if age < STILL_WARM else "crashed or cut"


def run_files(folder: Path) -> list[Path]:
    """The files that tell of the runs in a seed's folder: results.json, then the logs, newest first.

    Raises:
        OSError: the folder cannot be read.
    """
    found = sorted((path for path in folder.iterdir() if RUN_FILE.fullmatch(path.name)), reverse=True)
    return [path for path in found if path.is_file()]


def read_folder(folder: Path, keyword: str, want_test: bool) -> Run:
    """Reads a seed's folder: its best file of a finished test, or of a finished training run."""
    passed_over = []
    try:
        files = run_files(folder)
    except OSError as error:
        return Run(folder, why=f"cannot be read ({error.strerror})")
    for path in files:
        is_json = path.name == "results.json"
        run = read_results(path, keyword) if is_json else read_log(path, keyword, want_test)
        if run.value is not None and run.is_test == want_test:
            run.notes = [f"{why}; {path.name} is used" for why in passed_over]
            return run
        passed_over.append(f"{path.name}: {run.why or ('a test' if run.is_test else 'a training run')}")
    named = [path for path in folder.iterdir() if RUN_FILE.fullmatch(path.name) and not path.is_file()]
    passed_over += [f"{path.name}: not a file, or a broken link" for path in sorted(named)]
    if (folder / "resume.pth.tar").is_file():
        passed_over.append("resume.pth.tar is there: the same command goes on from it")
    return Run(folder, why="; ".join(passed_over) or "no log.txt and no results.json")


def read_seeds(folders: Sequence[Path], keyword: str, want_test: bool) -> list[Run]:
    """Reads the seeds of an experiment: their tests if `want_test`, else their training runs.

    If none of these has finished, finished ones of the other kind count: nothing can be confused then. A file
    that links give to several seeds counts once.
    """
    runs = [read_folder(folder, keyword, want_test) for folder in folders]
    if all(run.value is None for run in runs):
        others = [read_folder(folder, keyword, not want_test) for folder in folders]
        if any(run.value is not None for run in others):
            runs = others
    first: dict[str, Run] = {}
    for run in runs:
        if run.value is not None and (same := first.setdefault(os.path.realpath(run.file), run)) is not run:
            run.value, run.why = None, f"{run.file.name} is the same file as that of {visible(same.folder)}"
    return runs


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
            found[f"{name}_seconds"] = phase["seconds"] + (phase.get("seconds_before") or 0)
    for name in ("peak_gpu_memory", "peak_memory"):
        peaks = [phase[name] for phase in phases.values() if phase.get(name)]
        if peaks:
            return found | {"memory": max(peaks)}
    return found
