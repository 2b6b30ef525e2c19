"""A folder of seeds, or of experiments, line for line as CoOp's script prints it; one seed has no spread."""

import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from reporting.layout import natural
from reporting.read import Run, read_seeds, run_files
from reporting.tables import spread
from reporting.text import visible


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, hidden ones left out, seed10 after seed9."""
    found = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return sorted(found, key=lambda p: natural(p.name))


def each_once(folders: Sequence[Path], out: Callable[[str], None]) -> list[Path]:
    """The folders, of several names of the same one the first that is no link; shows the others."""
    first: dict[str, Path] = {}
    for folder in sorted(folders, key=Path.is_symlink):
        first.setdefault(os.path.realpath(folder), folder)
    kept = []
    for folder in folders:
        same = first[os.path.realpath(folder)]
        if folder == same and folder not in kept:
            kept.append(folder)
        else:
            out(f"note: {visible(folder)} is the folder {visible(same)}, which counts once")
    return kept


def given_once(directories: Sequence[Path], are_parents: bool, out: Callable[[str], None]) -> list[Path]:
    """The given folders, each once; shows those left out, also a part of another given one.

    Args:
        directories: as given.
        are_parents: whether each holds experiments; else each is an experiment.
        out: shows a line.
    """
    kept = each_once(directories, out)
    parts = {
        os.path.realpath(part): directory
        for directory in kept
        for part in subfolders(directory)
        if are_parents or has_files(part)
    }
    for directory in kept:
        if whole := parts.get(os.path.realpath(directory)):
            out(f"note: {visible(directory)} lies in {visible(whole)}, where it counts")
    return [directory for directory in kept if os.path.realpath(directory) not in parts]


def seed_folders(directory: Path, out: Callable[[str], None]) -> list[Path]:
    """The seeds of an experiment, each once; the directory itself if it is one seed's folder."""
    folders = subfolders(directory)
    if run_files(directory) and not any(has_files(folder) for folder in folders):
        return [directory]
    return each_once(folders, out)


def has_files(folder: Path) -> bool:
    """Whether a run's files lie in the folder; not if it cannot be read."""
    try:
        return bool(run_files(folder))
    except OSError:
        return False


def show_experiment(
    directory: Path, keyword: str, test_log: bool, ci95: bool, out: Callable[[str], None]
) -> float | None:
    """Shows each seed of an experiment, then mean and spread; returns the mean, None if nothing counts."""
    out(f"Parsing files in {visible(directory)}")
    runs = read_seeds(seed_folders(directory, out), keyword, test_log)
    counted = [run for run in runs if run.value is not None]
    if not test_log and any(run.is_test for run in counted):
        out("note: these are tests (eval_only), read as with --test-log")
    for run in runs:
        out(seed_line(run, keyword))
        for note in run.notes:
            out(f"note: {visible(run.folder)}: {note}")
    if not counted:
        return None
    values = [run.value for run in counted]
    mean = statistics.fmean(values)
    out(f"===\nSummary of directory: {visible(directory)}")
    over_seeds = spread(values, ci95)
    shown = f"{mean:.2f}%" + ("" if over_seeds is None else f" +- {over_seeds:.2f}%")
    out(f"* {visible(keyword)}: {shown}\n===")
    return mean


def seed_line(run: Run, keyword: str) -> str:
    if run.value is None:
        return f"not counted: {visible(run.folder)}: {run.why}"
    return f"file: {visible(run.file)}. {visible(keyword)}: {run.value:.2f}%. "


def show_experiments(
    directory: Path, keyword: str, test_log: bool, ci95: bool, out: Callable[[str], None]
) -> float | None:
    """Shows each experiment below the directory, then the average of their means; returns it."""
    experiments = each_once(subfolders(directory), out)
    means = {folder: show_experiment(folder, keyword, test_log, ci95, out) for folder in experiments}
    counted = [mean for mean in means.values() if mean is not None]
    if not counted:
        return None
    out(f"Average performance\n* {visible(keyword)}: {statistics.fmean(counted):.2f}%")
    for folder, mean in means.items():
        if mean is None:
            out(f"note: not in the average, no finished run: {visible(folder)}")
    return statistics.fmean(counted)
