"""Where the family's scripts put their runs, and what a run's path therefore says.

base2new/{train_base,test_new}/<dataset>/shots_<n>/<trainer>[/<config>]/seed<s>    all; MMA without config
few_shot/<dataset>/shots_<n>/<trainer>/<config>/seed<s>                            reproduce.py
<dataset>/<trainer>/<config>_<n>shots[/<variant>]/seed<s>                          few shots; the source
evaluation/<trainer>/<config>_<n>shots[/<variant>]/<dataset>/seed<s>               the targets
<trainer>/<config>/<dataset>                                                       zero-shot, no seed
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reporting.read import read_log, read_results, run_files

N = r"[^/]+"
SEED = r"seed(?P<seed>\d+)"
PATTERNS = [  # the first one that fits counts
    rf"(?P<half>train_base|test_new)/(?P<dataset>{N})/shots_(?P<shots>\d+)/(?P<trainer>{N})(/(?P<config>.+?))?/{SEED}",
    rf"(?P<half>evaluation)/(?P<trainer>{N})/(?P<config>{N})_(?P<shots>\d+)shots(?P<variant>/.+?)?/(?P<dataset>{N})/{SEED}",
    rf"(?P<dataset>{N})/shots_(?P<shots>\d+)/(?P<trainer>{N})(/(?P<config>.+?))?/{SEED}",
    rf"(?P<dataset>{N})/(?P<trainer>{N})/(?P<config>{N})_(?P<shots>\d+)shots(?P<variant>/.+?)?/{SEED}",
]
LAYOUTS = [re.compile(rf"(?:^|.*/){pattern}$") for pattern in PATTERNS]
UNSEEDED = re.compile(rf"(?:^|.*/)(?P<trainer>{N})/(?P<config>{N})/(?P<dataset>{N})$")
DEEPEST = 12  # levels below the given directory


@dataclass(frozen=True)
class Place:
    """What a run's path says of it."""

    folder: Path
    root: Path  # what stands before the part that the scripts lay out
    half: str  # train_base, test_new, evaluation (a target), or all
    dataset: str
    trainer: str
    config: str
    shots: int
    seed: str


def natural(name: str) -> list:
    """Sort key that puts seed10 after seed9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def find_places(directories: Sequence[Path]) -> tuple[list[Place], list[Path]]:
    """The places of all runs below the directories, each once, in natural order.

    Returns:
        The places; and the folders that hold a run where the scripts put none.
    """
    found: dict[str, Place] = {}
    strays = []
    for directory in directories:
        for folder in run_folders(directory):
            if place := place_of(folder, directory):
                found.setdefault(os.path.realpath(folder), place)
            elif folder != directory:  # there a log.txt may be anybody's, e.g. nohup's
                strays.append(folder)
    return sorted(found.values(), key=lambda place: natural(str(place.folder))), strays


def run_folders(directory: Path) -> Iterator[Path]:
    """Folders called seed<s>, and others with a log or a record; links are followed, circles are not."""
    seen = set()
    for name, below, files in os.walk(directory, followlinks=True):
        folder, real = Path(name), os.path.realpath(name)
        is_seed = re.fullmatch(r"seed\d+", folder.name)
        if real in seen or is_seed or len(folder.relative_to(directory).parts) >= DEEPEST:
            below.clear()
        if real not in seen and (is_seed or "results.json" in files or "log.txt" in files):
            yield folder
        seen.add(real)
        below[:] = sorted(child for child in below if not child.startswith("."))


def place_of(folder: Path, directory: Path) -> Place | None:
    """What the path says; None if the scripts write no such path.

    Args:
        folder: a run's folder.
        directory: the one that was given; the folder's root is shown as it was.
    """
    path = Path(os.path.abspath(folder)).as_posix()
    match = next((match for layout in LAYOUTS if (match := layout.match(path))), None)
    if match is None:
        match = UNSEEDED.match(path)
        if match is None or match["trainer"] != trainer_named_in(folder):
            return None
    said = match.groupdict()
    first = min(match.start(name) for name in ("half", "dataset", "trainer") if said.get(name))
    variant = (said.get("variant") or "").replace("/", " ")
    return Place(
        folder=folder,
        root=shown(path[:first].rstrip("/") or "/", directory),
        half=said.get("half") or "all",
        dataset=said["dataset"],
        trainer=said["trainer"],
        config=(said["config"] or "") + variant,
        shots=int(said.get("shots") or 0),
        seed=said.get("seed") or "1",
    )


def trainer_named_in(folder: Path) -> str:
    """The trainer that a run's files name, "" if none does."""
    for path in run_files(folder):
        run = (
            read_results(path, "accuracy")
            if path.name == "results.json"
            else read_log(path, "accuracy", as_test=True)
        )
        if run.trainer:
            return run.trainer
    return ""


def shown(root: str, directory: Path) -> Path:
    """The root as a path that begins with the given directory where it lies below it."""
    given = os.path.abspath(directory)
    if root == given or root.startswith(given.rstrip("/") + "/"):
        return directory / os.path.relpath(root, given)
    relative = os.path.relpath(root)
    return Path(root if relative.startswith("..") else relative)


def trained_on(model_dir: str) -> str:
    """The data set of the model in a folder that the scripts laid out; "" if the path does not say."""
    for layout in LAYOUTS:
        if match := layout.match(Path(model_dir).as_posix()):
            return match["dataset"]
    return ""
