"""What the folders of a picture archive are: the archive's own, parts, or classes."""

import logging
from collections.abc import Collection
from pathlib import Path

from datasets.pictures import NOT_CLASSES, holds_pictures, picture_folders, printable
from datasets.raw_splits import visible_folders

logger = logging.getLogger(__name__)

SHOWN = 10  # folders that a message names
PARTS = {  # by the names that their folders go by, in small letters
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def find_parts(root: Path) -> tuple[Path, dict[str, Path]]:
    """Where the classes are: below how many folders of an archive, and in which parts.

    Returns:
        The folder of the parts, or of the classes if there are no parts, which are all ``train`` then;
        and the folders that hold the class folders by part: train is missing if only val or test do.

    Raises:
        ValueError: two folders are the same part.
    """
    home = unwrapped(root, PARTS)
    folders = named_parts(home)
    if "train" not in folders:
        folders = similar_parts(home) or folders or {"train": home}
    if "train" in folders:
        folders["train"] = unwrapped(folders["train"])
        classes = picture_folders(folders["train"])
        folders = {part: unwrapped(folder, classes) for part, folder in folders.items()}
    return home, folders


def unwrapped(folder: Path, known: Collection[str] = ()) -> Path:
    """Descends to the first folder with more in it than one folder of folders; stops above ``known`` ones."""
    while len(inner := picture_folders(folder)) == 1:
        below = folder / inner[0]
        if inner[0] in known or inner[0].lower() in known or holds_pictures(below):
            break
        folder = below
    return folder


def named_parts(home: Path) -> dict[str, Path]:
    """Folders by part, where they go by the usual names; empty if there are none.

    A folder is a part by its name and the class folders in it; beside such a train, val and test are parts
    whatever they hold. A train among other classes is a class.

    Raises:
        ValueError: two folders are the same part.
    """
    visible = [name for name in visible_folders(home) if name not in NOT_CLASSES]
    flat: dict[str, Path] = {}
    nested: dict[str, Path] = {}
    for name in visible:
        part = PARTS.get(name.lower())
        if part is None:
            continue
        if not visible_folders(home / name):
            flat[part] = home / name
        elif part in nested:
            raise ValueError(
                f'"{home}" has "{nested[part].name}" and "{name}", both {part}; keep one of them'
            )
        else:
            nested[part] = home / name
    folders = {**flat, **nested}
    if "train" in nested and (len(folders) > 1 or len(visible) == 1):
        return folders
    nested.pop("train", None)
    return nested


def similar_parts(home: Path) -> dict[str, Path]:
    """Folders by part, where their names only contain it ("seg_train", "Test_Set") and their classes agree.

    There must be one train, its classes must be all that the others have, and if these have none, there must
    be no folder besides. Empty if it is not so.
    """
    found: dict[str, list[Path]] = {}
    names = picture_folders(home)
    for name in names:
        kinds = similar_kinds(name)
        if len(kinds) == 1:
            found.setdefault(kinds[0], []).append(home / name)
    if "train" not in found or len(found) < 2 or any(len(folders) > 1 for folders in found.values()):
        return {}
    folders = {part: folders[0] for part, folders in found.items()}
    classes = {part: set(picture_folders(unwrapped(folder))) for part, folder in folders.items()}
    known = classes.pop("train")
    if len(known) < 2 or not all(theirs <= known for theirs in classes.values()):
        return {}
    return folders if any(classes.values()) or len(folders) == len(names) else {}


def similar_kinds(name: str) -> list[str]:
    """The parts that the name of a folder contains."""
    return [part for part in ("train", "val", "test") if part in name.lower()]


def check_are_classes(root: Path, folder: Path, classes: list[str]) -> None:
    """Checks that class folders are not parts, groups or an archive's own folder; warns where that may be.

    A file of class names says that they are classes, whatever they look like.

    Args:
        root: the data set's folder.
        folder: holds the class folders.
        classes: their names.

    Raises:
        ValueError: there is one alone, or they look like something else; says like what.
    """
    if len(classes) == 1:
        below = shown(picture_folders(folder / classes[0]))
        raise ValueError(
            f'"{folder}" holds pictures in one class folder alone, "{classes[0]}", so every answer would be '
            f"right; {f'if its folders {below} are the classes, name it as --root; ' * bool(below)}a "
            "data set is <class>/<picture> with two classes or more"
        )
    if names_file(root):
        return
    places = {name: folder / name for name in classes}
    inner = {name: [] if holds_pictures(at) else picture_folders(at) for name, at in places.items()}
    kinds = {kind for name in classes for kind in similar_kinds(name)[:1]}
    if len(kinds) == len(classes) and "train" in kinds and not any(inner.values()):
        raise ValueError(
            f'"{folder}" holds pictures in {shown(classes)}, which look like parts, but no class folders in '
            f"them; make it {classes[0]}/<class>/<picture>, or, if they are classes, name them in "
            "classnames.txt"
        )
    common = sorted(set.intersection(*map(set, inner.values())))
    if len(common) > 1:
        raise ValueError(
            f'"{folder}": each of {shown(classes)} holds the folders {shown(common)}, so these look like '
            f'the classes; name "{folder / classes[0]}" as --root, or move the parts into train and test; if '
            f"{shown(classes)} are the classes, name them in classnames.txt"
        )
    for name, folders in inner.items():
        if len(folders) > 1:
            logger.warning(
                '"%s" is taken for a class, its folders %s are not', printable(folder / name), shown(folders)
            )


def shown(names: list[str]) -> str:
    """Names for a message, not too many."""
    return printable(", ".join(names[:SHOWN])) + ", …" * (len(names) > SHOWN)


def say_what_is_used(root: Path, home: Path, folders: dict[str, Path]) -> None:
    """Names the folders that were taken for the root and the parts, and those beside the parts."""
    if home != root:
        logger.info('The pictures are taken from "%s", all that "%s" holds', home, root)
    if home in folders.values():
        return
    used = {part: folder.relative_to(home).parts[0] for part, folder in folders.items()}
    for part, folder in folders.items():
        if PARTS.get(folder.name.lower()) != part or folder.parent != home:
            logger.info('"%s" is taken for %s', folder, part)
    ignored = {*used.values(), *NOT_CLASSES}
    if beside := [name for name in visible_folders(home) if name not in ignored]:
        logger.warning(
            "%s: folders beside %s are not used: %s",
            home,
            ", ".join(used.values()),
            printable(", ".join(beside)),
        )


def names_file(root: Path) -> Path | None:
    """The file of class names, if there is one."""
    files = (root / name for name in ("classnames.json", "classnames.txt"))
    return next((file for file in files if file.is_file()), None)
