"""Runs as the papers' tables: rows data sets and their average, columns accuracies, with spread and seeds."""

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from reporting import published
from reporting.collect import KINDS, Entry, Key, collect
from reporting.layout import Place
from reporting.published import harmonic_mean
from reporting.read import Run, cost
from reporting.text import visible

# The columns that a data set must have to count in the average, unless the shots are the columns.
COLUMNS = {"base2new": ["Base", "Novel", "HM"], "cross_dataset": ["Accuracy"]}
COLUMNS["domain_generalization"] = COLUMNS["cross_dataset"]
AVERAGE = "Average"
UNTRAINED = ("ZeroshotCLIP", "ZeroshotCLIP2")


@dataclass
class Cell:
    """Mean in percent, spread over seeds (None of one seed alone), and the seeds behind it.

    A published number in an overview says how it contradicts its own table, if it does.
    """

    mean: float
    spread: float | None = None
    seeds: list[str] = field(default_factory=list)
    contradiction: str = ""


@dataclass
class Row:
    """A data set's cells by column, and what its runs took (mean over seeds); or an average of several."""

    name: str
    cells: dict[str, Cell] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    datasets: list[str] = field(default_factory=list)  # of an average
    runs: list[tuple[str, str, Run]] = field(default_factory=list)  # column, seed, run; the counted ones


@dataclass
class Table:
    """The runs of one trainer and configuration in one protocol; an overview has a row for each method."""

    key: Key
    keyword: str
    columns: list[str]
    rows: list[Row]
    notes: list[str]
    is_overview: bool = False

    @property
    def method(self) -> str:
        """Trainer and configuration."""
        return f"{self.key.trainer} {self.key.config}".strip()

    @property
    def shots(self) -> str:
        """`, 16 shots`; nothing for a method that trains nothing, or where each number is a column."""
        shots, is_untrained = self.key.shots, self.key.trainer in UNTRAINED
        return "" if shots is None or is_untrained else f", {shots} shot{'s' * (shots != 1)}"

    @property
    def is_comparable(self) -> bool:
        """Whether published numbers are of the same: accuracy after 16 shots (if trained), from ImageNet."""
        key = self.key
        return (
            key.kind in published.COLUMNS
            and self.keyword == "accuracy"
            and (key.shots == published.SHOTS or key.trainer in UNTRAINED)
            and key.source in ("", published.SOURCE)
        )

    def complete_rows(self) -> list[Row]:
        """The data sets that have every column an average needs; a source is none of them."""
        needed = COLUMNS.get(self.key.kind, self.columns)
        return [row for row in self.dataset_rows() if all(name in row.cells for name in needed)]

    def dataset_rows(self) -> list[Row]:
        """All rows but the average and the source."""
        return [row for row in self.rows if not row.datasets and row.name != self.key.source]

    def backbones(self) -> list[str]:
        """The backbones that the runs name."""
        return sorted({run.backbone for row in self.rows for _, _, run in row.runs if run.backbone})


def spread(values: Collection[float], ci95: bool) -> float | None:
    """Population standard deviation, as the family prints it; or 1.96 times that over the root of n.

    None of fewer than two values: one seed tells nothing of others.
    """
    if len(values) < 2:
        return None
    std = statistics.pstdev(values)
    return 1.96 * std / math.sqrt(len(values)) if ci95 else std


def make_tables(places: Sequence[Place], keyword: str = "accuracy", ci95: bool = False) -> list[Table]:
    """The tables of all runs in these places.

    Args:
        places: where the runs lie.
        keyword: which of their numbers.
        ci95: the spread is half the width of a 95 % confidence interval instead of a standard deviation.
    """
    return [make_table(key, found, keyword, ci95) for key, found in collect(places, keyword).items()]


def make_table(key: Key, entries: Sequence[Entry], keyword: str, ci95: bool) -> Table:
    """A table with its data sets in the papers' order, the source first, the average last."""
    notes: list[str] = []
    by_dataset: dict[str, list[Entry]] = defaultdict(list)
    taken: dict[tuple, Entry] = {}
    for found in sorted(entries, key=lambda entry: entry.is_moved):
        run = found.run
        where = visible(run.folder)
        by_dataset[found.place.dataset].append(found)
        notes += [f"{where}: {note}" for note in run.notes]
        if run.value is not None and not found.wrong:
            same = taken.setdefault((found.place.dataset, found.column, found.place.seed), found)
            if same is not found:
                found.wrong = f"of the same data set, classes and seed is {visible(same.run.folder)}"
        if run.value is None or found.wrong:
            notes.append(f"not counted: {where}: {run.why or found.wrong}")
    order = ["imagenet", *published.ROWS["cross_dataset"], *published.ROWS["domain_generalization"]]
    names = sorted(by_dataset, key=lambda name: (name != key.source, [*order, name].index(name), name))
    rows = [make_row(name, by_dataset[name], notes, ci95) for name in names]
    columns = list(COLUMNS.get(key.kind, []))
    extra = {name for row in rows for name in row.cells} - set(columns)
    columns += sorted(extra, key=lambda name: (int(re.match(r"\d*", name)[0] or 0), name))
    table = Table(key, keyword, columns, rows, notes)
    add_average(table)
    return table


def make_row(dataset: str, entries: Sequence[Entry], notes: list[str], ci95: bool) -> Row:
    """A data set's cells.

    HM is that of the two means. Its spread is that of the HMs of single seeds, those that both halves have.
    """
    values: dict[str, dict[str, float]] = {}  # column → seed → value
    row = Row(dataset)
    for found in entries:
        if found.run.value is None or found.wrong:
            continue
        seed = found.place.seed
        row.runs.append((found.column, seed, found.run))
        values.setdefault(found.column, {})[seed] = found.run.value
        for name, value in found.run.other.items():
            values.setdefault(f"{found.column} ({name.replace('_', ' ')})", {})[seed] = value
    for column, by_seed in values.items():
        numbers = list(by_seed.values())
        row.cells[column] = Cell(statistics.fmean(numbers), spread(numbers, ci95), list(by_seed))
    base, novel = values.get("Base"), values.get("Novel")
    if base and novel:
        hms = {seed: harmonic_mean(base[seed], novel[seed]) for seed in base if seed in novel}
        mean = harmonic_mean(row.cells["Base"].mean, row.cells["Novel"].mean)
        row.cells["HM"] = Cell(mean, spread(hms.values(), ci95), list(hms))
        if base.keys() != novel.keys():
            notes.append(
                f"{dataset}: base has the seeds {', '.join(base)}, novel {', '.join(novel)}: "
                f"HM is of the two means, its spread over the seeds {', '.join(hms) or '(none)'}"
            )
    row.cost = mean_cost(row.runs)
    return row


def mean_cost(runs: Sequence[tuple[str, str, Run]]) -> dict[str, float]:
    """What runs took on average: the training runs among them if there are any, with the most shots."""
    chosen = [found for found in runs if not found[2].is_test] or list(runs)
    most = max((found[2].shots or 0 for found in chosen), default=0)
    costs = [cost(run.record) for _, _, run in chosen if (run.shots or 0) == most and run.record]
    names = dict.fromkeys(name for found in costs for name in found)
    return {name: statistics.fmean(found[name] for found in costs if name in found) for name in names}


def mean_row(name: str, rows: Sequence[Row], columns: Sequence[str]) -> Row:
    """Means over data sets, HM of those means; a column that lacks a data set has none: it would mislead.

    A single data set's are its own cells, with spreads and seeds.
    """
    mean = Row(name, datasets=[row.name for row in rows])
    if len(rows) == 1:
        mean.cells, mean.cost = dict(rows[0].cells), dict(rows[0].cost)
        return mean
    for column in columns:
        if all(column in row.cells for row in rows):
            mean.cells[column] = Cell(statistics.fmean(row.cells[column].mean for row in rows))
    if "HM" in mean.cells:
        mean.cells["HM"].mean = harmonic_mean(mean.cells["Base"].mean, mean.cells["Novel"].mean)
    for key in dict.fromkeys(key for row in rows for key in row.cost):
        values = [row.cost[key] for row in rows if key in row.cost]
        if len(values) == len(rows):
            mean.cost[key] = statistics.fmean(values)
    return mean


def add_average(table: Table) -> None:
    """The average over the complete data sets, or over all if none is complete."""
    rows = table.dataset_rows()
    used = table.complete_rows() or rows
    if len(used) < 2:
        return
    table.rows.append(mean_row(AVERAGE, used, table.columns))
    if len(used) < len(rows):
        what = "both base and novel results" if table.key.kind == "base2new" else "all columns"
        table.notes.append(f"{AVERAGE}: of the {len(used)} data sets that have {what}")


def overviews(tables: Sequence[Table], methods: Sequence[str]) -> list[Table]:
    """One table for each protocol in which several methods ran: their averages over what all of them have.

    Args:
        tables: one for each method.
        methods: published ones, added where every data set's number is known.
    """
    found = []
    for kind in KINDS:
        group = [table for table in tables if table.key.kind == kind]
        kinds_tables = [overview(same, methods) for same in related(group) if len(same) > 1]
        found += [table for table in kinds_tables if table]
    return found


def related(tables: Sequence[Table]) -> list[list[Table]]:
    """Tables that may be compared: of one source, and connected by data sets that two of them share."""
    groups: list[list[Table]] = []
    for table in tables:
        names = {row.name for row in table.dataset_rows()}
        near = [
            group
            for group in groups
            if any(
                other.key.source == table.key.source and names & {row.name for row in other.dataset_rows()}
                for other in group
            )
        ]
        groups = [group for group in groups if group not in near]
        groups.append([*(other for group in near for other in group), table])
    return [sorted(group, key=list(tables).index) for group in groups]


def overview(tables: Sequence[Table], methods: Sequence[str]) -> Table | None:
    """The methods' averages over the data sets that all of them have; None if there is no such data set.

    A method that has no data set completely, or none in common with those before it, is left out and named.
    """
    few_shot = tables[0].key.kind == "few_shot"
    complete = [
        (table, [row.name for row in (table.dataset_rows() if few_shot else table.complete_rows())])
        for table in tables
    ]
    common: list[str] = []
    kept: list[Table] = []
    for table, names in complete:
        shared = [name for name in common if name in names] if kept else names
        if shared:
            common = shared
            kept.append(table)
    if len(kept) < 2:
        return None
    left_out = [label for table, label in zip(tables, labels(tables), strict=True) if table not in kept]
    tables = kept
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    columns.sort(key=lambda name: int(re.match(r"\d*", name)[0] or 0))
    rows = []
    for table, label in zip(tables, labels(tables), strict=True):
        used = [row for row in table.dataset_rows() if row.name in common]
        rows.append(mean_row(label, used, columns))
        trained = [row for row in table.rows if row.name == table.key.source and row.cost]
        if trained:  # the targets' runs trained nothing
            rows[-1].cost |= trained[0].cost
    notes = [f"averages over {len(common)} data set{'s' * (len(common) > 1)}: {', '.join(common)}"]
    notes += [f"left out, without a complete data set in common with the others: {name}" for name in left_out]
    comparable = [table for table in tables if table.is_comparable]
    if comparable and (beside := published_rows(tables[0].key.kind, methods, common)):
        rows += beside
        notes += [note for note in [other_backbones(comparable)] if note]
    key = Key(tables[0].key.kind, tables[0].key.root, "", "", None, tables[0].key.source)
    return Table(key, tables[0].keyword, columns, rows, notes, is_overview=True)


def other_backbones(tables: Sequence[Table]) -> str:
    """A note if runs had another backbone than the published ones; "" if not, or if none is named."""
    others = sorted({name for table in tables for name in table.backbones()} - {published.BACKBONE})
    if not others:
        return ""
    return f"published numbers are of CLIP {published.BACKBONE}; these runs had {', '.join(others)}"


def labels(tables: Sequence[Table]) -> list[str]:
    """A name for each table, as long as it must be to tell them apart."""
    shots = len({table.key.shots for table in tables}) > 1
    roots = len({table.key.root for table in tables}) > 1
    sources = len({table.key.source for table in tables}) > 1
    return [
        table.method
        + (table.shots if shots else "")
        + (f", from {table.key.source}" if sources else "")
        + (f", {visible(table.key.root)}" if roots else "")
        for table in tables
    ]


def published_rows(kind: str, methods: Sequence[str], datasets: list[str]) -> list[Row]:
    """Rows of published averages over these data sets; methods of which nothing is known have none."""
    rows = []
    for method in methods:
        row = Row(f"{method} (published)", datasets=datasets)
        for column in published.COLUMNS[kind]:
            if number := published.average(kind, method, datasets, column):
                row.cells[column] = Cell(number.value, contradiction=number.contradiction)
        if row.cells:
            rows.append(row)
    return rows
