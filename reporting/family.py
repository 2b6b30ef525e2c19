"""A folder of seeds, or of experiments, line for line as CoOp's script prints it; one seed has no spread."""

import statistics
from collections.abc import Callable
from pathlib import Path

from reporting.layout import natural
from reporting.read import Run, read_seeds, run_files
from reporting.tables import spread
from reporting.text import visible


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, hidden ones left out, seed10 after seed9."""
    found = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return sorted(found, key=lambda p: natural(p.name))


def seed_folders(directory: Path) -> list[Path]:
    """The seeds of an experiment; the directory itself if it is one seed's folder."""
    folders = subfolders(directory)
    if run_files(directory) and not any(has_files(folder) for folder in folders):
        return [directory]
    return folders


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
    runs = read_seeds(seed_folders(directory), keyword, test_log)
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
    out(f"* {keyword}: {mean:.2f}%" + ("" if over_seeds is None else f" +- {over_seeds:.2f}%") + "\n===")
    return mean


def seed_line(run: Run, keyword: str) -> str:
    if run.value is None:
        return f"not counted: {visible(run.folder)}: {run.why}"
    return f"file: {visible(run.file)}. {keyword}: {run.value:.2f}%. "


def show_experiments(
    directory: Path, keyword: str, test_log: bool, ci95: bool, out: Callable[[str], None]
) -> float | None:
    """Shows each experiment below the directory, then the average of their means; returns it."""
    means = {
        folder: show_experiment(folder, keyword, test_log, ci95, out) for folder in subfolders(directory)
    }
    counted = [mean for mean in means.values() if mean is not None]
    if not counted:
        return None
    out(f"Average performance\n* {keyword}: {statistics.fmean(counted):.2f}%")
    for folder, mean in means.items():
        if mean is None:
            out(f"note: not in the average, no finished run: {visible(folder)}")
    return statistics.fmean(counted)
