"""Where the family's scripts put their runs, and what a run's path therefore says.

base2new/{train_base,test_new}/<dataset>/shots_<n>[_<w>]/<trainer>[/<config>]/seed<s>   all; MMA: no config;
                                                                          KgCoOp, TCP: w, a weight of the loss
{train_base,test_new}/<dataset>/<trainer>/<config>_<n>shots[/<variant>]/seed<s>         HPT, TextRefiner
few_shot/<dataset>/shots_<n>/<trainer>/<config>/seed<s>                                 reproduce.py
[xd/]<dataset>/<trainer>/<config>_<n>shots[/<variant>]/seed<s>                          few shots; the source
evaluation/[xd/]<trainer>/<config>_<n>shots[/<variant>]/<dataset>/seed<s>               the targets
<dataset>/<config>_<n>shots/seed<s>                                                     CLAP, also its targets
<trainer>/<config>/<dataset>                                                            zero-shot, no seed

DPC and PromptKD write seed_<s>, HPT <config>_shots_<n>, TextRefiner xd/. What a run's own files say of its
data set, seed and classes counts before all of this (`reporting.collect`).
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reporting.published import DATA_SETS
from reporting.read import read_log, read_results, run_files
from reporting.text import visible

N = r"[^/]+"
SEED = r"seed_?(?P<seed>\d{1,9})"
SHOTS = r"shots_(?P<shots>\d{1,9})(?:_(?P<weight>[^/]+))?"
CONFIG = rf"(?P<config>{N})_(?:(?P<shots>\d{{1,9}})shots|shots_(?P<shots_>\d{{1,9}}))"
HALF = r"(?P<half>train_base|test_base|test_new)"
KNOWN = "|".join(map(re.escape, DATA_SETS.values()))
PATTERNS = [  # the first one that fits counts
    rf"{HALF}/(?P<dataset>{N})/{SHOTS}/(?P<trainer>{N})(/(?P<config>.+?))?/{SEED}",
    rf"{HALF}/(?P<dataset>{N})/(?P<trainer>{N})/{CONFIG}(?P<variant>/.+?)?/{SEED}",
    rf"(?P<half>evaluation)/(?:xd/)?(?P<trainer>{N})/{CONFIG}(?P<variant>/.+?)?/(?P<dataset>{N})/{SEED}",
    rf"(?P<dataset>{N})/{SHOTS}/(?P<trainer>{N})(/(?P<config>.+?))?/{SEED}",
    rf"(?P<dataset>{KNOWN})/{CONFIG}/{SEED}",  # of two folders the one called as a data set is no trainer's
    rf"(?P<half>xd)/(?P<dataset>{N})/(?P<trainer>{N})/{CONFIG}(?P<variant>/.+?)?/{SEED}",
    rf"(?P<dataset>{N})/(?P<trainer>{N})/{CONFIG}(?P<variant>/.+?)?/{SEED}",
]
LAYOUTS = [re.compile(rf"(?:^|.*/){pattern}\Z", re.DOTALL) for pattern in PATTERNS]
UNSEEDED = re.compile(rf"(?:^|.*/)(?P<trainer>{N})/(?P<config>{N})/(?P<dataset>{N})\Z", re.DOTALL)
IS_SEED = re.compile(r"seed_?\d{1,9}")
DEEPEST = 12  # levels below the given directory


@dataclass(frozen=True)
class Place:
    """What a run's path says of it; after `reporting.collect`, what its files say where they say it."""

    folder: Path
    root: Path  # what stands before the part that the scripts lay out
    half: str  # train_base, test_new, evaluation (a target), or all
    dataset: str
    trainer: str  # "" if the path does not say
    config: str
    shots: int
    seed: str
    foreign: str = ""  # the data set that the evaluated model was trained on, if it is another one


def natural(name: str) -> list:
    """Sort key that puts seed10 after seed9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def find_places(directories: Sequence[Path]) -> tuple[list[Place], dict[Path, str], list[str]]:
    """The places of all runs below the directories, each once, in natural order.

    Returns:
        The places; the folders of which no run can be shown, with the reason: it lies where the scripts put
        none, or the folder cannot be read; and a line for each directory with runs that were found before.
    """
    found: dict[str, Place] = {}  # by the folder's path without links
    strays: dict[str, Path] = {}
    unreadable: dict[Path, str] = {}
    again: dict[Path, int] = {}

    def note_error(error: OSError) -> None:
        unreadable[Path(error.filename)] = f"cannot be read ({error.strerror})"

    for directory in directories:
        for folder in run_folders(directory, note_error):
            real = os.path.realpath(folder)
            if real in found:
                again[directory] = again.get(directory, 0) + 1
            elif place := place_of(folder, directory):
                found[real] = place
            elif real != os.path.realpath(directory):  # there a log.txt may be anybody's, e.g. nohup's
                strays.setdefault(real, folder)
    outside = {
        folder: "is not where the scripts put runs" for real, folder in strays.items() if real not in found
    }
    lines = [
        f"{visible(directory)}: {number} run{'s' * (number > 1)} found a second time, by a link or another "
        "folder that was given: each counts once"
        for directory, number in again.items()
    ]
    return sorted(found.values(), key=lambda place: natural(str(place.folder))), outside | unreadable, lines


def run_folders(directory: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Folders called seed<s>, and others with a log or a record, under each of their names.

    Links are followed, after the folders beside them; what lies below a folder is listed once.
    """
    seen = set()
    for name, below, files in os.walk(directory, followlinks=True, onerror=on_error):
        folder, real = Path(name), os.path.realpath(name)
        is_seed = IS_SEED.fullmatch(folder.name)
        if real in seen or is_seed or len(folder.relative_to(directory).parts) >= DEEPEST:
            below.clear()
        if is_seed or "results.json" in files or "log.txt" in files:
            yield folder
        seen.add(real)
        below[:] = sorted(child for child in below if not child.startswith("."))
        below.sort(key=lambda child: os.path.islink(os.path.join(name, child)))


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
    more = [said.get("config"), said.get("weight"), *(said.get("variant") or "").split("/")]
    half = said.get("half") or "all"
    return Place(
        folder=folder,
        root=shown(path[:first].rstrip("/") or "/", directory),
        half={"xd": "all", "test_base": "train_base"}.get(half, half),
        dataset=visible(said["dataset"]),
        trainer=visible(said.get("trainer") or ""),
        config=visible(" ".join(filter(None, more))),
        shots=int(said.get("shots") or said.get("shots_") or 0),
        seed=said.get("seed") or "1",
    )


def trainer_named_in(folder: Path) -> str:
    """The trainer that a run's files name, "" if none does."""
    try:
        files = run_files(folder)
    except OSError:
        return ""
    for path in files:
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
    path = model_dir.replace("\\", "/").rstrip("/")  # the log may come from Windows
    for layout in LAYOUTS:
        if match := layout.match(path):
            return data_set(match["dataset"])
    return ""


def data_set(name: str) -> str:
    """What the tables call a data set: dtd for DescribableTextures; a name of no known one as it is."""
    return DATA_SETS.get(letters(name), name)


def letters(name: str) -> str:
    """What is left of a data set's name for comparing: OxfordPets and oxford_pets are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
