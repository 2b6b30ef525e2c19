"""What a split may hold: entries of path, label and class name, classes numbered from 0; no torch here."""

import logging
import posixpath
import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

logger = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
FETCH = "correct it, or fetch it again"
ABSOLUTE = re.compile(r"[\\/]|[A-Za-z]:[\\/]")  # on any system: split files travel

Entry = tuple[str, int, str]  # path below the image folder, label, class name


def check_split(split: Any, source: str, remedy: str = FETCH) -> None:
    """Checks all of a split; a test image that is a training image too is warned of.

    Args:
        split: what its file holds; maps each part to a list of ``[path, label, class name]``.
        source: where it comes from, for messages.
        remedy: what to do about a split that is refused.

    Raises:
        ValueError: an entry is malformed, its path leads out of the image folder, an image has two labels, or
            ``check_classes`` refuses the classes; names the entry.
    """
    if not isinstance(split, Mapping) or not all(
        isinstance(split.get(part), (list, tuple)) for part in PARTS
    ):
        raise ValueError(
            f"{source} is not a split file (a JSON object of train, val and test lists of "
            f"[path, label, class name]); {remedy}"
        )
    for part in PARTS:
        for number, entry in enumerate(split[part]):
            if fault := entry_fault(entry):
                raise ValueError(f"{source}: {part}[{number}] is {reprlib.repr(entry)}: {fault}; {remedy}")
    check_classes(split, source, remedy)
    check_repeated(split, source, remedy)


def entry_fault(entry: Any) -> str:
    """What is wrong with an entry of a split, by itself; empty if nothing is."""
    if not isinstance(entry, (list, tuple)) or len(entry) != 3:
        return "an entry is [path, label, class name]"
    path, label, name = entry
    if not is_text(path):
        return "its path is not a text"
    if ABSOLUTE.match(path) or ".." in re.split(r"[\\/]", path):
        return "its path is absolute or leads through ..; paths start at the image folder"
    # 1.0, as numpy and pandas write labels, means 1 without doubt
    is_whole = type(label) is int or (type(label) is float and label.is_integer())
    if not is_whole or label < 0:
        return "its label is not a whole number of 0 or more"
    if not is_text(name):
        return "its class name is not a text"
    return ""


def is_text(value: Any) -> bool:
    """Whether ``value`` is a text that is not blank and that a file name can hold."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return False
    return value == value.encode("utf-8", "ignore").decode()  # no half of a surrogate pair


def check_classes(
    entries: Mapping[str, Iterable[Entry]], source: str, remedy: str = FETCH, *, unique_names: bool = True
) -> None:
    """Checks that labels are 0 to n - 1 of two classes or more, each with one name of its own.

    Args:
        entries: those of train, val and test; a class need not be in all of them.
        source: where they come from, for the message.
        remedy: what to do.
        unique_names: False where published classes share names, as two pairs of ImageNet's do.

    Raises:
        ValueError: they are not; names the entry.
    """
    names: dict[int, str] = {}
    labels: dict[str, int] = {}
    places: dict[int, str] = {}  # the first entry of each label
    for part in PARTS:
        for number, (_, label, name) in enumerate(entries[part]):
            if label not in names:
                names[label], places[label] = name, f"{part}[{number}]"
                if unique_names and labels.setdefault(name, label) != label:
                    raise ValueError(
                        f'{source}: class "{name}" has label {labels[name]} in {places[labels[name]]} and '
                        f"label {reprlib.repr(label)} in {places[label]}; a class has one label: {remedy}"
                    )
            elif names[label] != name:
                raise ValueError(
                    f'{source}: label {reprlib.repr(label)} is class "{names[label]}" in {places[label]} and '
                    f'class "{name}" in {part}[{number}]; each class has a label of its own: {remedy}'
                )
    if wrong := [label for label in names if label >= len(names)]:  # then a smaller one is missing
        missing = next(label for label in range(len(names)) if label not in names)
        raise ValueError(
            f"{source}: the labels of {len(names)} classes must be 0 to {len(names) - 1}, but "
            f'{places[wrong[0]]} has label {reprlib.repr(wrong[0])} (class "{names[wrong[0]]}") and nothing '
            f"has label {missing}; number the classes from 0 without a gap: {remedy}"
        )
    if len(names) == 1:
        raise ValueError(
            f'{source}: all images are of one class, "{names[0]}", so every answer would be right; two '
            f"classes are the least: {remedy}"
        )


def check_repeated(split: Mapping[str, Iterable[Entry]], source: str, remedy: str) -> None:
    """Refuses an image with two labels, of which one is wrong; warns of images in train and in test.

    Raises:
        ValueError: an image has two labels; names the entry.
    """
    labels: dict[str, int] = {}
    for part in PARTS:
        for number, (path, label, _) in enumerate(split[part]):
            if labels.setdefault(posixpath.normpath(path), label) != label:
                raise ValueError(
                    f'{source}: {part}[{number}] gives "{path}" label {label}, an entry before it label '
                    f"{labels[posixpath.normpath(path)]}; an image has one label: {remedy}"
                )
    train, test = ({posixpath.normpath(path) for path, _, _ in split[part]} for part in ("train", "test"))
    if both := train & test:
        logger.warning(
            '%s: %d of %d test images are training images too, e.g. "%s": accuracies will be too high',
            source,
            len(both),
            len(test),
            min(both),
        )
