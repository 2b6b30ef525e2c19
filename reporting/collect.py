"""Which runs belong into which table: their protocol, and the source of each evaluated model."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reporting import published
from reporting.layout import Place, natural, trained_on
from reporting.read import Run, read_seeds

KINDS = {
    "base2new": "Base to novel",
    "cross_dataset": "Cross-dataset",
    "domain_generalization": "Domain generalisation",
    "few_shot": "All classes",
}
HALVES = {"train_base": ("Base", "base"), "test_new": ("Novel", "new")}  # column, DATASET.SUBSAMPLE_CLASSES
# Targets that show the source's classes in other pictures; the last two are the demo's.
SHIFTED = (*published.ROWS["domain_generalization"], "demo_cold", "demo_dark")


@dataclass(frozen=True)
class Key:
    """What the runs of one table have in common.

    Attributes:
        kind: one of `KINDS`.
        shots: None where each number of shots is a column.
        source: the data set of the evaluated models, in cross-dataset and domain generalisation.
    """

    kind: str
    root: Path
    trainer: str
    config: str
    shots: int | None
    source: str = ""

    def order(self) -> list:
        """Protocols as in `KINDS`, the rest naturally."""
        parts = (self.root, self.trainer, self.config, self.shots, self.source)
        return [list(KINDS).index(self.kind), *(natural(str(part)) for part in parts)]


@dataclass
class Entry:
    """A run in a table: its row and column, and why it does not count after all."""

    place: Place
    run: Run
    column: str
    wrong: str = ""


def collect(places: Sequence[Place], keyword: str) -> dict[Key, list[Entry]]:
    """Reads all runs and sorts them into tables; a source's run stands in each table of its targets."""
    read = list(read_all(places, keyword))
    sources = defaultdict(set)  # data sets that a method was trained on, all classes
    for place, _ in read:
        if place.half == "all":
            sources[method_of(place)].add(place.dataset)
    found: dict[Key, list[Entry]] = defaultdict(list)
    for place, run in read:
        if place.half in HALVES:
            key = Key("base2new", *method_of(place))
        elif place.half == "evaluation":
            kind = "domain_generalization" if place.dataset in SHIFTED else "cross_dataset"
            key = Key(kind, *method_of(place), source_of(run, sources[method_of(place)]))
        else:
            continue
        found[key].append(entry(place, run))
    evaluated = list(found)
    for place, run in read:
        if place.half != "all":
            continue
        method = (*method_of(place), place.dataset)
        keys = [
            key for key in evaluated if (key.root, key.trainer, key.config, key.shots, key.source) == method
        ]
        keys = keys or [Key("few_shot", place.root, place.trainer, place.config, None)]
        for key in keys:
            found[key].append(entry(place, run, is_few_shot=key.kind == "few_shot"))
    return {key: found[key] for key in sorted(found, key=Key.order)}


def read_all(places: Sequence[Place], keyword: str) -> Iterator[tuple[Place, Run]]:
    """The run in each place; the seeds of one experiment are read together."""
    experiments: dict[tuple, list[Place]] = defaultdict(list)
    for place in places:
        experiments[(*method_of(place), place.half, place.dataset)].append(place)
    for seeds in experiments.values():
        want_test = seeds[0].half in ("test_new", "evaluation")
        runs = read_seeds([place.folder for place in seeds], keyword, want_test)
        yield from zip(seeds, runs, strict=True)


def method_of(place: Place) -> tuple[Path, str, str, int]:
    return place.root, place.trainer, place.config, place.shots


def source_of(run: Run, candidates: set[str]) -> str:
    """Where a target's model was trained: as the run says, else the only possible one, else ImageNet."""
    if named := trained_on(run.model_dir):
        return named
    if len(candidates) == 1:
        return next(iter(candidates))
    return published.SOURCE if published.SOURCE in candidates or not candidates else ""


def entry(place: Place, run: Run, is_few_shot: bool = False) -> Entry:
    """A run's column, and whether it was given what its folder says."""
    column, classes = HALVES.get(place.half, ("Accuracy", "all"))
    if is_few_shot:
        column = "1 shot" if place.shots == 1 else f"{place.shots} shots"
    wrong = ""
    if run.classes not in ("", classes):
        wrong = f"DATASET.SUBSAMPLE_CLASSES is {run.classes}, not {classes}"
    elif run.shots not in (None, place.shots) and place.shots and not run.is_test:
        wrong = f"DATASET.NUM_SHOTS is {run.shots}, not {place.shots}"
    return Entry(place, run, column, wrong)
