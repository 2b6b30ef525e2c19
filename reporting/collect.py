"""Which runs belong into which table: their protocol, and the source of each evaluated model."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reporting import published
from reporting.layout import Place, data_set, letters, natural, trained_on
from reporting.read import Run, read_seeds

KINDS = {
    "base2new": "Base to novel",
    "cross_dataset": "Cross-dataset",
    "domain_generalization": "Domain generalisation",
    "few_shot": "All classes",
}
GENERIC = "ImageFolder"  # DATASET.NAME of anybody's pictures: only the folder's name tells which
HALVES = {"train_base": ("Base", "base"), "test_new": ("Novel", "new")}  # column, DATASET.SUBSAMPLE_CLASSES
MOVED = "not what the folder's name says"
HALF_OF = {"base": "train_base", "new": "test_new", "all": "all"}
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
    """A run in a table: its row and column, and why it does not count after all.

    Attributes:
        is_moved: the folder's name says something else; of two runs alike the other one counts.
    """

    place: Place
    run: Run
    column: str
    wrong: str = ""
    is_moved: bool = False


def collect(places: Sequence[Place], keyword: str) -> dict[Key, list[Entry]]:
    """Reads all runs and sorts them into tables; a source's run stands in each table of its targets."""
    read = [(settled(place, run), run) for place, run in read_all(places, keyword)]
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


def settled(place: Place, run: Run) -> Place:
    """The place with what the run's own file says of its data set, seed and classes.

    Where that differs from what the folder's name says, the run gets a note.
    """
    seed = place.seed if run.seed is None or run.seed < 0 else str(run.seed)
    dataset = data_set_of(place, run)
    source = trained_on(run.model_dir)
    foreign = "" if source in (dataset, data_set(place.dataset)) or not run.is_test else source
    half = HALF_OF.get(run.classes, place.half)
    if half == "all" and run.is_test and (foreign or place.half == "evaluation"):
        half = "evaluation"
    told = []
    if data_set(place.dataset) != dataset:
        told.append(f"data set {run.dataset}")
    if place.seed != seed:
        told.append(f"seed {seed}")
    if place.half not in ("all", half):
        told.append(f"{run.classes} classes")
    if told:
        run.notes.append(f"{MOVED}: {run.file.name} says {', '.join(told)}")
    trainer = place.trainer or run.trainer
    return replace(place, half=half, dataset=dataset, seed=seed, trainer=trainer, foreign=foreign)


def data_set_of(place: Place, run: Run) -> str:
    """The data set that the run's own file names, as the tables call it; else that of the folder."""
    folder = data_set(place.dataset)
    is_own = run.dataset == GENERIC and folder not in published.DATA_SETS.values()
    if not run.dataset or is_own or letters(run.dataset) == letters(folder):
        return folder
    return data_set(run.dataset)


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
    """A run's column, and whether it is of what the column shows."""
    column, classes = HALVES.get(place.half, ("Accuracy", "all"))
    if is_few_shot:
        column = "1 shot" if place.shots == 1 else f"{place.shots} shots"
    wrong = ""
    if run.classes not in ("", classes):
        wrong = f"DATASET.SUBSAMPLE_CLASSES is {run.classes}, not {classes}"
    elif place.half in HALVES and place.foreign:
        wrong = f"its model was trained on {place.foreign} (model_dir {run.model_dir})"
    elif run.split not in ("", "test"):
        wrong = f"it was evaluated on {run.split}, not on test"
    elif run.shots not in (None, place.shots) and place.shots and not run.is_test:
        wrong = f"DATASET.NUM_SHOTS is {run.shots}, not {place.shots}"
    return Entry(place, run, column, wrong, any(note.startswith(MOVED) for note in run.notes))
