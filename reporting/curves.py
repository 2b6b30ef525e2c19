"""What runs say beyond their accuracy: the loss while training, and each class's share of right answers."""

import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from reporting.read import Run, run_files
from reporting.tables import UNTRAINED, Row, Table
from reporting.text import read_text, visible

# Dassl's line: the mean since the epoch's start stands in brackets.
N = r"\d{1,9}"
STEP = re.compile(
    rf"^epoch \[({N})/{N}\] batch \[{N}/{N}\].{{0,1000}}? loss \S{{1,40}} \(([-+\d.e]{{1,40}})\)",
    re.MULTILINE,
)


def losses(run: Run) -> dict[int, float]:
    """Mean loss of each epoch, from all logs in the run's folder.

    A run that was cut and went on has several; what is told twice counts as the later log tells it. A log
    that cannot be read tells nothing.
    """
    found: dict[int, float] = {}
    with suppress(OSError):
        for path in reversed(run_files(run.folder)):  # oldest first
            if path.name != "results.json":
                with suppress(OSError):
                    found |= losses_in(read_text(path))
    return dict(sorted(found.items()))


def losses_in(log: str) -> dict[int, float]:
    """The loss of each epoch's last line; one that is no number (nan) is left out."""
    found = {}
    for epoch, loss in STEP.findall(log):
        with suppress(ValueError):
            found[int(epoch)] = float(loss)
    return found


def class_accuracies(runs: Sequence[Run]) -> dict[str, float]:
    """Accuracy of each class in percent, mean over the runs that tell it."""
    found = defaultdict(list)
    for run in runs:
        for item in run.record.get("per_class") or []:
            if item["total"]:
                found[visible(item["classname"])].append(100 * item["correct"] / item["total"])
    return {name: sum(values) / len(values) for name, values in found.items()}


def class_changes(tables: Sequence[Table]) -> list[tuple[Table, str, str, dict[str, float]]]:
    """For each trained method, data set and column: points that each class gained over zero-shot CLIP."""
    found = []
    for table in tables:
        if table.key.trainer in UNTRAINED:
            continue
        for row in table.dataset_rows():
            for column in table.columns:
                before = class_accuracies(zero_shot_runs(tables, table, row, column))
                after = class_accuracies([run for name, _, run in row.runs if name == column])
                if before and before.keys() == after.keys():
                    found.append(
                        (table, row.name, column, {name: after[name] - before[name] for name in after})
                    )
    return found


def zero_shot_runs(tables: Sequence[Table], table: Table, row: Row, column: str) -> list[Run]:
    """The runs of zero-shot CLIP on the same classes; those of the single template before the ensemble's."""
    for trainer in UNTRAINED:
        for other in tables:
            if other.key.trainer != trainer or other.key.kind != table.key.kind:
                continue
            same = table.key.kind == "few_shot"  # there the columns are shots, and it has none
            runs = [
                run
                for place in other.rows
                if place.name == row.name
                for name, _, run in place.runs
                if same or name == column
            ]
            if runs:
                return runs
    return []
