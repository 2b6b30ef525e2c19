"""Trainers and data sets by any of their names; imports trainers and data sets, so it loads torch."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from runner import ROOT


def plain(name: str) -> str:
    """A name in lower case, letters and digits alone: ``caltech-101`` and ``Caltech101`` are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def trainer_names() -> dict[str, str]:
    """Every trainer by its names: as ``--trainer`` takes it, as its options and its scripts are called."""
    from dassl.engine import TRAINER_REGISTRY
    from runner.config import import_all

    import_all("trainers")
    registered = TRAINER_REGISTRY.registered_names()
    found = {plain(name): name for name in registered}
    for path in sorted((ROOT / "scripts").glob("*/*.sh")):
        trainer = re.search(r"^TRAINER=(?:\$\{TRAINER:-)?(\w+)", path.read_text("utf-8"), re.MULTILINE)
        if trainer and trainer[1] in registered:
            found.setdefault(plain(path.parent.name), trainer[1])
    for name in registered:
        found.setdefault(plain(getattr(TRAINER_REGISTRY.get(name), "options_name", "")), name)
    return found


def dataset_names() -> dict[str, str]:
    """Every file below configs/datasets by its names: the file's, the data set's, its folder's."""
    from dassl.data.datasets import DATASET_REGISTRY
    from runner.config import import_all, parse_cfg

    import_all("datasets")
    files = sorted((ROOT / "configs" / "datasets").glob("*.yaml"))
    found = {plain(file.stem): file.stem for file in files}
    for file in files:
        try:
            name = parse_cfg(file.read_text("utf-8")).DATASET.NAME
        except (ValueError, AttributeError):
            continue  # its jobs say what is wrong with it
        known = name in DATASET_REGISTRY.registered_names()
        folder = getattr(DATASET_REGISTRY.get(name), "dataset_dir", "") if known else ""
        for other in (name, folder):
            if isinstance(other, str) and plain(other):
                found.setdefault(plain(other), file.stem)
    return found


def resolve(given: Sequence[str], known: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The names that are known, as the project has them, each once; and those that are not.

    ``all`` stays as it is.
    """
    found = {name: "all" if plain(name) == "all" else known.get(plain(name)) for name in given}
    unknown = [name for name, resolved in found.items() if resolved is None]
    return list(dict.fromkeys(filter(None, found.values()))), unknown


def suggestion(name: str, known: Mapping[str, str]) -> str:
    """``did you mean dtd? there are: caltech101, dtd, …``."""
    near = get_close_matches(plain(name), known, n=1)
    names: Iterable[str] = sorted(set(known.values()), key=str.lower)
    return (f"did you mean {known[near[0]]}? " if near else "") + f"there are: {', '.join(names)}"
