"""Published accuracies: data files with the source of each number, and what contradicts itself in them."""

import csv
import statistics
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "published"
# The papers' rows, in their order; the average is over them.
ROWS = {
    "base2new": (
        *("imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101"),
        *("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"),
    ),
    "domain_generalization": ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"),
}
ROWS["cross_dataset"] = ROWS["base2new"][1:]
DEMO = ("demo", "demo_cold", "demo_dark", "demo_colour_shape", "demo_shape_background", "demo_count_shape")
# DATASET.NAME in lower case: what the tables call the data set, as its YAML file is called.
DATA_SETS = {
    name.replace("_", ""): name for name in (*ROWS["base2new"], *ROWS["domain_generalization"], *DEMO)
} | {"describabletextures": "dtd"}
COLUMNS = {  # of our tables: of the files
    "base2new": {"Base": "base", "Novel": "new", "HM": "hm"},
    "cross_dataset": {"Accuracy": "accuracy"},
    "domain_generalization": {"Accuracy": "accuracy"},
}
SHOTS = 16
BACKBONE = "ViT-B/16"
SOURCE = "imagenet"
AVERAGE = "average"
ROUNDING = 0.005  # of a number printed with two decimals
# The methods' names in the papers, where their trainers are called otherwise.
PUBLISHED_AS = {"ZeroshotCLIP": "CLIP", "MultiModalAdapter": "MMA"}


@dataclass(frozen=True)
class Number:
    """A published accuracy in percent, its source, and how it contradicts its own table, if it does."""

    value: float
    source: str
    contradiction: str = ""


def harmonic_mean(base: float, novel: float) -> float:
    return 2 * base * novel / (base + novel) if base + novel else 0.0


@cache
def load(kind: str) -> dict[str, dict[str, dict[str, Number]]]:
    """The published numbers of a protocol: method → data set → column → number.

    Args:
        kind: base2new, cross_dataset or domain_generalization.
    """
    numbers: dict[str, dict[str, dict[str, Number]]] = {}
    with (FOLDER / f"{kind}.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            numbers.setdefault(line["method"], {})[line["dataset"]] = {
                column: Number(float(line[name]), line["source"])
                for column, name in COLUMNS[kind].items()
                if line[name]
            }
    for rows in numbers.values():
        for dataset, row in rows.items():
            for column, number in row.items():
                said = wrong_hm(row) if column == "HM" else ""
                if dataset == AVERAGE and column != "HM":
                    said = wrong_average(number.value, rows, ROWS[kind], column)
                row[column] = Number(number.value, number.source, said)
    return numbers


def wrong_hm(row: dict[str, Number]) -> str:
    """How an HM differs from that of its own base and novel accuracy; "" if only by rounding.

    Each of the three was rounded, and HM grows by 2n²/(b+n)² with b and by 2b²/(b+n)² with n.
    """
    if not {"Base", "Novel", "HM"} <= row.keys():
        return ""
    base, novel, stated = (row[column].value for column in ("Base", "Novel", "HM"))
    tolerance = ROUNDING * (1 + 2 * (base**2 + novel**2) / (base + novel) ** 2)
    computed = harmonic_mean(base, novel)
    if abs(stated - computed) <= tolerance + 1e-9:
        return ""
    return f"HM {stated:.2f} is printed, base {base:.2f} and novel {novel:.2f} give {computed:.2f}"


def wrong_average(
    stated: float, rows: dict[str, dict[str, Number]], datasets: tuple[str, ...], column: str
) -> str:
    """How an average differs from that of its cells; "" within rounding or if a cell is unknown."""
    cells = [rows[name][column].value for name in datasets if column in rows.get(name, {})]
    if len(cells) < len(datasets):
        return ""
    mean = statistics.fmean(cells)
    if abs(stated - mean) <= 2 * ROUNDING + 1e-9:  # that of the cells, and its own
        return ""
    return f"{stated:.2f} is printed, the {len(cells)} cells have the mean {mean:.2f}"


def methods() -> list[str]:
    """The names of all methods with a published number."""
    return list(dict.fromkeys(method for kind in COLUMNS for method in load(kind)))


def choose(names: list[str]) -> list[str]:
    """The methods of these names, in any case.

    Raises:
        ValueError: a name is unknown; the message lists those that are known.
    """
    known = {method.lower(): method for method in methods()}
    for name in names:
        if name.lower() not in known:
            raise ValueError(f'--vs "{name}": no published numbers; known are {", ".join(known.values())}')
    return [known[name.lower()] for name in names]


def lookup(kind: str, method: str, dataset: str, column: str) -> Number | None:
    """A published number; None if it is not known, or if the data set is none of the papers'."""
    if kind not in COLUMNS or dataset == AVERAGE:
        return None
    return load(kind).get(method, {}).get(dataset, {}).get(column)


def average(kind: str, method: str, datasets: list[str], column: str) -> Number | None:
    """The method's average over exactly these data sets; None where a number is not known.

    Over all of the papers' rows it is the printed one. Over others it is computed, HM from both means.
    """
    if kind not in COLUMNS:
        return None
    rows = load(kind).get(method, {})
    if sorted(datasets) == sorted(ROWS[kind]) and column in rows.get(AVERAGE, {}):
        return rows[AVERAGE][column]
    if len(datasets) == 1:
        return lookup(kind, method, datasets[0], column)
    if column == "HM":
        halves = [average(kind, method, datasets, half) for half in ("Base", "Novel")]
        if None in halves:
            return None
        return Number(harmonic_mean(*(half.value for half in halves)), halves[0].source)
    cells = [lookup(kind, method, dataset, column) for dataset in datasets]
    if not cells or None in cells:
        return None
    return Number(statistics.fmean(cell.value for cell in cells), cells[0].source)
