"""What of a data set is there, counted against what should be; reads folder listings, opens no image."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from datasets.preparation.sources import CLASSNAMES, Part, Source
from datasets.splits import PARTS as SPLITS
from datasets.splits import check_split
from fileio.text import unique_keys

# Where a path of the data set's folder really lies: there, or still in an unpacked archive.
At = Callable[[str], Path]
AIRCRAFT = "images_variant_{}.txt"
IGNORED = {"README.txt"}  # CoOp's list for ImageNet-A and -R


@dataclass
class Report:
    """What was found of a data set.

    Attributes:
        source: what there should be.
        found: images of each split that are listed and on the disk.
        classes: number of classes.
        problems: what is wrong, one line each; empty when the data set is ready.
        notes: what is worth knowing all the same.
    """

    source: Source
    found: dict[str, int] = field(default_factory=dict)
    classes: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """``ready``, ``incomplete`` or ``missing`` (not one image)."""
        if not self.problems:
            return "ready"
        return "incomplete" if any(self.found.values()) else "missing"


def at_home(folder: Path) -> At:
    """Where paths of a data set lie once they are placed."""
    return lambda path: folder / path


def survey(source: Source, root: Path) -> Report:
    """Counts the images and classes of a data set below a data root."""
    folder = root / source.folder
    report = Report(source)
    if not folder.is_dir():
        report.problems.append(f'there is no folder "{folder}"')
        return report
    at = at_home(folder)
    for part in source.parts:
        if part.required and (problem := problem_of(source, part, at)):
            report.problems.append(problem)
    images = listed(source, at)
    report.classes = len({name for items in images.values() for _, name in items})
    for split, items in images.items():
        lost = absent((path for path, _ in items), at) if source.layout in ("split", "aircraft") else []
        report.found[split] = len(items) - len(lost)
    if source.layout == "split" and images:
        if report.classes != source.classes:
            report.problems.append(f"the split file has {report.classes} classes instead of {source.classes}")
        if not report.problems and not is_published(source, at(source.split)):
            report.notes.append(f"{source.split} is another split than the published one")
    return report


def problem_of(source: Source, part: Part, at: At) -> str:
    """What is wrong with a part of a data set, "" if nothing is."""
    gone = [path for path in part.paths if not at(path).exists()]
    if gone:
        return f"{', '.join(gone)} missing"
    if part.paths == (source.split,):
        return split_problem(source, at(source.split))
    if part.paths == (CLASSNAMES,):
        return classnames_problem(at(CLASSNAMES))
    if not part.required:
        return next(filter(None, (content_problem(at(path)) for path in part.paths)), "")
    if source.layout == "split":
        return images_problem(source, part.paths, at)
    if source.layout == "imagenet":
        split = part.paths[0].rpartition("/")[2]
        return folders_problem(source, at(part.paths[0]), source.counts[split])
    if source.layout == "folders":
        return folders_problem(source, at(source.images), source.counts["test"])
    return aircraft_problem(source, at)


def split_problem(source: Source, path: Path) -> str:
    """What is wrong with a split file."""
    try:
        split = read_split(path)
    except ValueError as error:
        return str(error)
    if "note" in json.loads(path.read_text(encoding="utf-8")):  # loaders of earlier versions wrote it
        return f"{path.name} was drawn from the raw annotations, it is not the official one"
    wrong = [
        f"{len(split[name]):,} {name} images instead of {count:,}"
        for name, count in source.counts.items()
        if len(split[name]) != count
    ]
    return f"{path.name} lists {', '.join(wrong)}" if wrong else ""


def read_split(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Paths and class names of each part of a split file.

    Raises:
        ValueError: it is no split file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError, OSError) as error:
        raise ValueError(f"{path.name} is not a split file: {type(error).__name__} {error}") from error
    check_split(content, path.name, "delete it, and fetch it again")
    return {name: [(image, classname) for image, _, classname in content[name]] for name in SPLITS}


def is_published(source: Source, path: Path) -> bool:
    """Whether a split file has the published content, as far as that is known, whatever its white space."""
    content = json.dumps(json.loads(path.read_text(encoding="utf-8")))
    digest = hashlib.sha256(content.encode()).hexdigest()
    return digest.startswith(source.split_digest)


def content_problem(path: Path) -> str:
    """What is wrong with a JSON or MATLAB file, whatever it says; a server's error page is none."""
    if path.suffix == ".json" and path.is_file():
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            return f"{path.name} is no JSON"
    if path.suffix == ".mat" and path.is_file():
        with open(path, "rb") as file:
            if file.read(7) != b"MATLAB ":  # "MATLAB 5.0 MAT-file", "MATLAB 7.3 MAT-file"
                return f"{path.name} is no MATLAB file"
    return ""


def images_problem(source: Source, paths: tuple[str, ...], at: At) -> str:
    """How many images of the split file are not there, of those that a part should bring."""
    wanted = [
        path
        for items in listed(source, at).values()
        for path, _ in items
        if path.startswith(tuple(f"{top}/" for top in paths))
    ]
    lost = absent(wanted, at)
    if not lost:
        return ""
    return f'{len(lost):,} of {len(wanted):,} images of {", ".join(paths)} missing, e.g. "{lost[0]}"'


def aircraft_problem(source: Source, at: At) -> str:
    """What is wrong with FGVCAircraft's lists or images."""
    images = listed(source, at)
    for name, count in source.counts.items():
        if len(images[name]) != count:
            return f"{AIRCRAFT.format(name)} lists {len(images[name]):,} images instead of {count:,}"
    classes = [line for line in lines_of(at("variants.txt")) if line.strip()]
    if len(classes) != source.classes:
        return f"variants.txt names {len(classes)} classes instead of {source.classes}"
    return images_problem(source, (source.images,), at)


def folders_problem(source: Source, folder: Path, count: int) -> str:
    """What is wrong with a folder of class folders."""
    classes = class_folders(folder)
    if not classes:
        return f'"{folder.name}" has no class folders'
    total = sum(len(files) for files in classes.values())
    wrong = []
    if len(classes) != source.classes:
        wrong.append(f"{len(classes):,} class folders instead of {source.classes:,}")
    if total != count:
        wrong.append(f"{total:,} images instead of {count:,}")
    return f'"{folder.name}" has {" and ".join(wrong)}' if wrong else ""


def classnames_problem(path: Path) -> str:
    """What is wrong with ImageNet's list of class names."""
    count = len(read_classnames(path))
    return "" if count == 1000 else f"{path.name} names {count:,} classes instead of 1,000"


def read_classnames(path: Path) -> dict[str, str]:
    """``classnames.txt``: a folder name (wnid), a space and the class name in each line."""
    lines = (line.strip().partition(" ") for line in lines_of(path))
    return {wnid: name for wnid, _, name in lines if wnid.startswith("n") and name}


def lines_of(path: Path) -> list[str]:
    """The lines of a text file; what is no UTF-8 in it is replaced."""
    return path.read_text(encoding="utf-8-sig", errors="replace").splitlines()


def listed(source: Source, at: At) -> dict[str, list[tuple[str, str]]]:
    """Path from the data set's folder and class of each image of each split; empty where nothing says it."""
    if source.layout == "split":
        try:
            split = read_split(at(source.split))
        except ValueError:
            return {}
        return {
            name: [(os.path.join(source.images, path), classname) for path, classname in items]
            for name, items in split.items()
        }
    if source.layout == "aircraft":
        return {name: _aircraft(at(AIRCRAFT.format(name))) for name in source.counts}
    top = source.images
    folders = {split: f"{top}/{split}" if source.layout == "imagenet" else top for split in source.counts}
    return {
        split: [
            (f"{path}/{name}/{file}", name)
            for name, files in class_folders(at(path)).items()
            for file in files
        ]
        for split, path in folders.items()
    }


def _aircraft(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        return []
    lines = (line.strip().partition(" ") for line in lines_of(path))
    return [(f"images/{image}.jpg", name) for image, _, name in lines if name]


def class_folders(folder: Path) -> dict[str, list[str]]:
    """The class folders of a folder and the files in each, sorted; hidden ones do not count."""
    if not folder.is_dir():
        return {}
    names = sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")
    )
    return {name: sorted(visible(folder / name)) for name in names if name not in IGNORED}


def visible(folder: Path) -> list[str]:
    """Names in a folder that do not start with a dot; none if there is no such folder."""
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return []


def absent(paths: Iterable[str], at: At) -> list[str]:
    """Those images that are not there; each folder is listed once."""
    wanted = defaultdict(list)
    for path in paths:
        wanted[os.path.dirname(path)].append(path)
    lost = []
    for folder, members in wanted.items():
        there = set(visible(at(folder)))
        lost += [path for path in members if os.path.basename(path) not in there]
    return lost


def table(reports: list[Report], command: str) -> str:
    """The reports as a table, found / expected, and below it what is wrong, one line each.

    Args:
        reports: one for each data set.
        command: what ``prepare`` in the last column stands for.
    """
    rows = []
    lines = []
    for report in reports:
        source, state = report.source, report.state
        cells = [f"{report.classes:,} / {source.classes:,}"]
        for split in SPLITS:
            expected = source.counts.get(split)
            cells.append(f"{report.found.get(split, 0):,} / {expected:,}" if expected else "")
        todo = "" if state == "ready" else f"prepare {source.config}"
        by_hand = ", by hand" if todo and source.layout == "imagenet" else ""
        rows.append([source.name, state, *cells, todo + by_hand])
        if state != "missing":
            lines += [f"{source.name}: {line}" for line in [*report.problems, *report.notes]]
    header = ["data set", "state", "classes", *SPLITS, "what to do next"]
    text = [tabulate(rows, header, tablefmt="simple", disable_numparse=True)]
    if any(report.problems for report in reports):
        lines.append(f"prepare: {command}")
    return "\n".join([*text, *([""] if lines else []), *lines])
