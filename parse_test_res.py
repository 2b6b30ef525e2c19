"""Collect finished runs: mean and spread of a folder of seeds, or the whole Base / Novel / HM table.

    python parse_test_res.py output/base2new/train_base/caltech101/shots_16/HeBA/base2new
    python parse_test_res.py output/base2new/test_new/caltech101/shots_16/HeBA/base2new --test-log
    python parse_test_res.py output/base2new/train_base/caltech101/shots_16/HeBA --multi-exp
    python parse_test_res.py output/base2new --format markdown

The first three are the CoOp family's calls and print its lines. A run is read from `results.json` if there is
one (full precision), else from Dassl's log (CoOp, MaPLe, PromptSRC, MMA, LwEIB, HeBA); of `log.txt` and its
re-runs `log.txt-<date>` the newest finished one counts. A log of this repository's train.py counts only with
its results.json. What is not counted is named, with the reason.
"""

import argparse
import csv
import json
import math
import os
import re
import statistics
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

HALVES = {"train_base": ("Base", "base"), "test_new": ("Novel", "new")}  # column, DATASET.SUBSAMPLE_CLASSES
PAPERS_ORDER = ["imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101"]
PAPERS_ORDER += ["fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"]

# "Finished" stands in logs of an older Dassl; MaPLe's and PromptSRC's scripts look for it.
END_OF_TRAINING = re.compile(r"^\s*(Finish(?:ed)? training)\s*$", re.MULTILINE)
RESULT = re.compile(r"^\s*(=> result)", re.MULTILINE)
# In each log of our train.py. Several evaluations may follow, and the log does not tell which is the last.
OURS = re.compile(r"^VLM-HeBA: a run is finished", re.MULTILINE)
EVAL_ONLY = re.compile(r"^eval_only: (True|False)", re.MULTILINE)
CLASSES = re.compile(r"^ +SUBSAMPLE_CLASSES: (\w+)", re.MULTILINE)
EPOCH = re.compile(r"^epoch \[(\d+/\d+)\]", re.MULTILINE)


@dataclass
class Run:
    """One seed's run, or what one of its files says. Without a value it is not counted; `why` tells why."""

    folder: Path
    file: Path | None = None
    value: float | None = None  # percent
    why: str = ""
    is_test: bool = False  # a test (--eval-only), not a training run
    classes: str = ""  # DATASET.SUBSAMPLE_CLASSES: all, base, new; "" if the file does not say
    other: dict[str, float] = field(default_factory=dict)  # the value under other settings, e.g. base_scale
    notes: list[str] = field(default_factory=list)


def read_results(path: Path, keyword: str) -> Run:
    """Read results.json. Our train.py writes it last of all: where it is, a run has finished."""
    run = Run(path.parent, path)
    key = {"error": "error_rate"}.get(keyword, keyword)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        run.is_test = bool(content.get("eval_only"))
        run.classes = content.get("subsample_classes") or ""
        run.other = {name: float(o[key]) for name, o in (content.get("other") or {}).items() if key in o}
        value = float(content[key])
        run.value, run.why = (value, "") if math.isfinite(value) else (None, f"{key} is {value}")
    except KeyError:
        run.why = f"no {key!r} in it"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        run.why = f"cannot be read ({error})"
    return run


def read_log(path: Path, keyword: str, as_test: bool) -> Run:
    """Read one of Dassl's logs. The last value counts, of a training run only what follows its end.

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
    if told := EVAL_ONLY.search(text):
        run.is_test = told[1] == "True"
    if told := CLASSES.search(text):
        run.classes = told[1]
    ours = OURS.search(text)
    end = None if ours else (RESULT if run.is_test else END_OF_TRAINING).search(text)
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
        run.why = f"crashed or still running, no {missing}" + (f", last epoch {epochs[-1]}" if epochs else "")
    return run


def run_files(folder: Path) -> list[Path]:
    """The files that tell of the runs in a seed's folder: results.json, then the logs, newest first."""
    logs = [path for path in folder.glob("log.txt*") if re.fullmatch(r"log\.txt(-[\d-]+)?", path.name)]
    results = folder / "results.json"
    return [results] * results.is_file() + sorted(logs, reverse=True)


def read_folder(folder: Path, keyword: str, want_test: bool) -> Run:
    """Read a seed's folder: its best file of a finished test, or of a finished training run."""
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


def natural(name: str) -> list:
    """Sort key that puts seed10 after seed9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def subfolders(folder: Path) -> list[Path]:
    found = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return sorted(found, key=lambda p: natural(p.name))


def read_seeds(directory: Path, keyword: str, test_log: bool) -> list[Run]:
    """Read the seeds of an experiment: their tests if `test_log`, else their training runs.

    If none of these has finished, finished ones of the other kind count: nothing can be confused then.
    """
    folders = subfolders(directory)
    if run_files(directory) and not any(run_files(folder) for folder in folders):
        folders = [directory]  # a single seed's folder was given
    for want_test in (test_log, not test_log):
        runs = [read_folder(folder, keyword, want_test) for folder in folders]
        if any(run.value is not None for run in runs):
            return runs
    return [read_folder(folder, keyword, test_log) for folder in folders]


def spread(values: Collection[float], ci95: bool) -> float:
    """Population standard deviation, as the family prints it; or 1.96 times that over the root of n."""
    std = statistics.pstdev(values)
    return 1.96 * std / math.sqrt(len(values)) if ci95 else std


def print_experiment(directory: Path, args: argparse.Namespace) -> float | None:
    """Print each seed of an experiment, then mean and spread, as CoOp's script does; return the mean."""
    print(f"Parsing files in {directory}")
    runs = read_seeds(directory, args.keyword, args.test_log)
    counted = [run for run in runs if run.value is not None]
    if not args.test_log and any(run.is_test for run in counted):
        print("note: these are tests (eval_only), read as with --test-log")
    for run in runs:
        if run.value is None:
            print(f"not counted: {run.folder}: {run.why}")
        else:
            print(f"file: {run.file}. {args.keyword}: {run.value:.2f}%. ")
        for note in run.notes:
            print(f"note: {run.folder}: {note}")
    if not counted:
        return None
    values = [run.value for run in counted]
    mean = statistics.fmean(values)
    print(f"===\nSummary of directory: {directory}")
    print(f"* {args.keyword}: {mean:.2f}% +- {spread(values, args.ci95):.2f}%\n===")
    return mean


def print_experiments(directory: Path, args: argparse.Namespace) -> float | None:
    """Print each experiment below the directory, then the average of their means; return it."""
    means = {folder: print_experiment(folder, args) for folder in subfolders(directory)}
    counted = [mean for mean in means.values() if mean is not None]
    if not counted:
        return None
    print(f"Average performance\n* {args.keyword}: {statistics.fmean(counted):.2f}%")
    for folder, mean in means.items():
        if mean is None:
            print(f"note: not in the average, no finished run: {folder}")
    return statistics.fmean(counted)


def base2new_roots(directory: Path) -> list[Path]:
    """The folders that hold train_base or test_new: the directory itself, or down to six levels below."""
    roots, seen = [], set()
    for name, below, _ in os.walk(directory, followlinks=True):
        folder, real = Path(name), os.path.realpath(name)
        if HALVES.keys() & below and real not in seen:
            roots.append(folder)
        if real in seen or len(folder.relative_to(directory).parts) == 6:
            below.clear()
        seen.add(real)
        below[:] = sorted(n for n in below if n not in HALVES and not re.match(r"\.|seed\d+$", n))
    return sorted(roots)


def base2new_tables(root: Path, args: argparse.Namespace) -> list[dict]:
    """Read all runs below the root into one table per trainer, configuration and number of shots.

    A table's rows map a column to its cell: a dictionary of mean, spread (or None) and seeds; no cell where
    nothing has finished.
    """
    values: dict = {}  # (trainer, config, shots) -> data set -> column -> seed -> value
    notes: dict[tuple, list[str]] = {}
    for half, (column, classes) in HALVES.items():
        for folder in sorted(p for p in root.glob(f"{half}/*/shots_*/*/*") if p.is_dir()):
            dataset, shots, trainer, config = folder.relative_to(root / half).parts
            key = (trainer, config, shots.removeprefix("shots_"))
            columns = values.setdefault(key, {}).setdefault(dataset, {"Base": {}, "Novel": {}})
            for run in read_seeds(folder, args.keyword, test_log=column == "Novel"):
                remarks = notes.setdefault(key, [])
                remarks += [f"{run.folder}: {note}" for note in run.notes]
                if run.value is None:
                    remarks.append(f"not counted: {run.folder}: {run.why}")
                elif run.classes not in ("", classes):
                    wrong = f"DATASET.SUBSAMPLE_CLASSES is {run.classes}, not {classes}"
                    remarks.append(f"not counted: {run.folder}: {wrong}")
                else:
                    seed = run.folder.name.removeprefix("seed")
                    columns[column][seed] = run.value
                    for name, value in run.other.items():
                        columns.setdefault(f"{column} ({name.replace('_', ' ')})", {})[seed] = value

    tables = []
    for key in sorted(values, key=lambda key: [natural(part) for part in key]):
        remarks = notes.get(key, [])
        datasets = [name for name in PAPERS_ORDER if name in values[key]]
        datasets += sorted(values[key].keys() - datasets)
        rows = [base2new_row(dataset, values[key][dataset], remarks, args.ci95) for dataset in datasets]
        rows += average_row(rows, remarks)
        title = dict(zip(("trainer", "config", "shots"), key, strict=True))
        tables.append({"root": str(root), "keyword": args.keyword, **title, "rows": rows, "notes": remarks})
    return tables


def harmonic_mean(base: float, novel: float) -> float:
    return 2 * base * novel / (base + novel) if base + novel else 0.0


def cell(values: dict[str, float], ci95: bool) -> dict:
    """Mean and spread of the values by seed."""
    numbers = list(values.values())
    return {"mean": statistics.fmean(numbers), "spread": spread(numbers, ci95), "seeds": list(values)}


def base2new_row(dataset: str, columns: dict[str, dict[str, float]], notes: list[str], ci95: bool) -> dict:
    """A data set's cells from its values by column and seed.

    HM is that of the two means. Its spread is that of the HMs of single seeds, those that both halves have.
    """
    row = {"dataset": dataset} | {name: cell(values, ci95) for name, values in columns.items() if values}
    base, novel = columns["Base"], columns["Novel"]
    if base and novel:
        hms = {seed: harmonic_mean(base[seed], novel[seed]) for seed in base if seed in novel}
        mean = harmonic_mean(row["Base"]["mean"], row["Novel"]["mean"])
        row["HM"] = (cell(hms, ci95) if hms else {"spread": None, "seeds": []}) | {"mean": mean}
        if base.keys() != novel.keys():
            notes.append(
                f"{dataset}: base has the seeds {', '.join(base)}, novel {', '.join(novel)}: "
                f"HM is of the two means, its spread over the seeds {', '.join(hms) or '(none)'}"
            )
    return row


def average_row(rows: list[dict], notes: list[str]) -> list[dict]:
    """Means over the data sets that have both halves (over all if none has), and HM of those means."""
    used = [row for row in rows if "HM" in row] or rows
    if len(used) < 2:
        return []
    # A column that lacks a data set gets no average: it could not be compared with the other columns.
    columns = [name for name in used[0] if name != "dataset" and all(name in row for row in used)]
    average: dict = {"dataset": "Average"}
    for name in columns:
        mean = statistics.fmean(row[name]["mean"] for row in used)
        average[name] = {"mean": mean, "spread": None, "seeds": []}
    if "HM" in average:
        average["HM"]["mean"] = harmonic_mean(average["Base"]["mean"], average["Novel"]["mean"])
    if len(used) < len(rows):
        notes.append(f"Average: of the {len(used)} data sets that have both base and novel results")
    return [average]


def print_tables(tables: list[dict], args: argparse.Namespace) -> None:
    """Print the tables as text, markdown, csv (one for all, full precision, notes to stderr) or json."""
    present = [name for table in tables for row in table["rows"] for name in row if name != "dataset"]
    columns = list(dict.fromkeys(["Base", "Novel", "HM", *present]))
    if args.format == "json":
        print(json.dumps(tables, indent=1, ensure_ascii=False))
    elif args.format == "csv":
        print_csv(tables, columns)
    else:
        for table in tables:
            print_table(table, columns, args)


def print_csv(tables: list[dict], columns: list[str]) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    title = ["root", "trainer", "config", "shots"]
    out.writerow([*title, "dataset", *(name for c in columns for name in (c, f"{c} spread", f"{c} seeds"))])
    for table in tables:
        for row in table["rows"]:
            line = [*(table[name] for name in title), row["dataset"]]
            for found in (row.get(c, {}) for c in columns):
                line += [found.get("mean"), found.get("spread"), " ".join(found.get("seeds", []))]
            out.writerow(line)
        for note in table["notes"]:
            print(note, file=sys.stderr)


def print_table(table: dict, columns: list[str], args: argparse.Namespace) -> None:
    def show(cell: dict | None) -> str:
        if cell is None:
            return "—"
        return f"{cell['mean']:.2f}" + ("" if cell["spread"] is None else f" ± {cell['spread']:.2f}")

    def count(row: dict) -> str:
        return "/".join(str(len(row[c]["seeds"]) if c in row else 0) for c in ("Base", "Novel"))

    columns = [c for c in columns if c in ("Base", "Novel", "HM") or any(c in row for row in table["rows"])]
    body = [[row["dataset"], *(show(row.get(c)) for c in columns), count(row)] for row in table["rows"]]
    if body[-1][0] == "Average":
        body[-1][-1] = ""
    markdown = args.format == "markdown"
    of = "1.96 std / √n" if args.ci95 else "population std"
    print(
        f"{'### ' * markdown}{table['trainer']} {table['config']}, {table['shots']} shots, {table['root']}: "
        f"{args.keyword} in %, mean ± {of} over seeds\n"
    )
    align = ["left", *["right"] * (len(columns) + 1)]
    header = ["Data set", *columns, "Seeds (base/novel)"]
    style = "github" if markdown else "simple"
    print(tabulate(body, header, tablefmt=style, colalign=align, disable_numparse=True) + "\n")
    for note in table["notes"]:
        print("- " * markdown + note)
    print("\n" * bool(table["notes"]), end="")


def main(argv: list[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("directory", type=Path, help="holds seed1, seed2, …; or train_base and test_new")
    parser.add_argument("--ci95", action="store_true", help="spread: 1.96 * std / sqrt(n) instead of std")
    parser.add_argument("--test-log", action="store_true", help="read tests (eval_only), not training runs")
    parser.add_argument("--multi-exp", action="store_true", help="each subdirectory is an experiment")
    parser.add_argument("--keyword", default="accuracy", help="which number: accuracy, error, macro_f1, …")
    formats = ["text", "markdown", "csv", "json"]
    parser.add_argument("--format", default="text", choices=formats, help="how to print the table")
    args = parser.parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without ± in its encoding shows a question mark

    if not args.directory.is_dir():
        return fail(f"no such directory: {args.directory}")
    roots = [] if args.multi_exp else base2new_roots(args.directory)
    if roots:
        tables = [table for root in roots for table in base2new_tables(root, args)]
        print_tables(tables, args)
        found = any(len(row) > 1 for table in tables for row in table["rows"])
    elif args.format != "text":
        return fail(f"--format {args.format} needs train_base or test_new below {args.directory}")
    else:
        found = (print_experiments if args.multi_exp else print_experiment)(args.directory, args) is not None
    if not found:
        return fail(
            f"no finished run in {args.directory}: give the folder that holds seed1, seed2, …, the one above "
            "with --multi-exp, or the one that holds train_base and test_new"
        )
    return 0


def fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
