"""Few-shot lists that other repositories of the family keep in a data set's folder; read, never written.

CoOp and its descendants keep ``<data set>/split_fewshot/shot_<n>-seed_<s>.pkl``; whoever uses the same folder
trains on the same images, so such a file comes before our own draw. Nothing in it is executed.
"""

import io
import logging
import os
import pickle
import pickletools
from collections import Counter
from pathlib import Path
from typing import Any

from dassl.data.datasets import Datum

logger = logging.getLogger(__name__)

Lists = tuple[list[Datum], list[Datum]]  # for training and for validation

Entry = tuple[str, int, str]  # path, label, class name

LARGEST = 16 << 20  # bytes; ImageNet's 16 shots take 2 MB
MOST_OPCODES = 2_000_000  # theirs are 400 thousand
LONGEST_PATH = 4096  # characters
# All that pickles of dictionaries, lists, strings, numbers and plain objects are made of (protocols 2 to 5).
OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "SETITEM", "SETITEMS", "APPEND", "APPENDS"),
    *("NONE", "BININT", "BININT1", "BININT2", "LONG1", "SHORT_BINUNICODE", "BINUNICODE"),
    *("GLOBAL", "STACK_GLOBAL", "NEWOBJ", "BUILD"),
}


def stored_shots(path: Path, image_dir: Path, split: Lists, drawn: Lists) -> Lists:
    """The lists of another repository's file, or the drawn ones where there is no file.

    Args:
        path: of the file.
        image_dir: folder that the paths of the split start from.
        split: the complete lists.
        drawn: CoOp's draw from them.

    Raises:
        ValueError: the file is not a list of this split's images; says what to do.
    """
    if not path.is_file():
        return drawn
    try:
        stored = find_all(read_pickle(path), image_dir, split, drawn)
    except (OSError, ValueError) as error:
        raise ValueError(
            f'few-shot list "{path}", made by other code, is not used: {error}; move it away, and '
            "CoOp's images are drawn anew"
        ) from error
    _say_which(path, stored, drawn)
    return stored


def find_all(stored: dict[str, list[Entry]], image_dir: Path, split: Lists, drawn: Lists) -> Lists:
    """The split's own images that ``stored`` lists; of ``val``, where it has none, the drawn ones.

    Args:
        stored: for ``train`` and perhaps ``val`` a list of path, label and class name. Paths may be those of
            another machine: the part below the image folder counts.
        image_dir: folder that the paths of the split start from.
        split: the complete lists.
        drawn: CoOp's draw from them.

    Raises:
        ValueError: an image, its label or its class name is not the split's, it is listed twice, or a class
            has too many or too few images for training or too many for validation.
    """
    found = []
    for name, part, draw in zip(("train", "val"), split, drawn, strict=True):
        if stored.get(name) is None or not part:  # CoOp stores no val for ImageNet
            found.append(draw)
            continue
        here = {_relative(item, image_dir): item for item in part}
        depth = max(path.count("/") for path in here) + 1
        items = [_find(entry, here, depth, name) for entry in stored[name]]
        if twice := _count(items, "impath") - _count(part, "impath"):
            raise ValueError(f'it lists "{next(iter(twice))}" more than once')
        has, needs = _count(items, "label"), _count(draw, "label")
        for label in has.keys() | needs.keys():
            if has[label] > needs[label] or (has[label] < needs[label] and name == "train"):
                raise ValueError(f"it has {has[label]} {name} images of label {label}, not {needs[label]}")
        found.append(items)
    return found[0], found[1]


def _find(entry: Entry, here: dict[str, Datum], depth: int, name: str) -> Datum:
    """The image of ``here`` whose path, of at most ``depth`` parts, is the longest end of the entry's."""
    path, label, classname = entry
    if len(path) > LONGEST_PATH:
        raise ValueError(f'"{_short(path)}" is a path of {len(path):,} characters')
    parts = path.replace("\\", "/").split("/")[-depth:]
    tails = ("/".join(parts[start:]) for start in range(len(parts)))  # the longest first
    item = next((here[tail] for tail in tails if tail in here), None)
    if item is None:
        raise ValueError(f'"{_short(path)}" is not a {name} image of the split at hand')
    if (item.label, item.classname) != (label, classname):
        raise ValueError(
            f'"{_short(path)}" is "{_short(classname)}" (label {_short(str(label))}) in it, but '
            f'"{item.classname}" (label {item.label}) in the split at hand'
        )
    return item


def _count(items: list[Datum], attribute: str) -> Counter:
    return Counter(getattr(item, attribute) for item in items)


def _short(text: str) -> str:
    """The end of a long text of a file, for a message."""
    return text if len(text) <= 200 else f"…{text[-200:]}"


def _relative(item: Datum, image_dir: Path) -> str:
    """Path of an image below the image folder, with forward slashes."""
    return item.impath.removeprefix(f"{image_dir}{os.sep}").replace("\\", "/")


def _say_which(path: Path, stored: Lists, drawn: Lists) -> None:
    """One line that says where the images come from, and whether they are CoOp's for this seed."""
    train, coops = stored[0], drawn[0]
    others = (_count(train, "impath") - _count(coops, "impath")).total()
    what = "the images that CoOp draws for this seed"
    if others:
        what = f"not what CoOp draws for this seed: {others} of {len(train)} training images are others"
    elif [item.impath for item in train] != [item.impath for item in coops]:
        what += ", in another order"
    logger.info("Few-shot list %s is used: %s", path, what)


def read_pickle(path: Path) -> dict[str, list[Entry]]:
    """What the file holds, as ``find_all`` takes it; nothing from it is executed.

    Raises:
        ValueError: it is damaged, or holds anything else than Dassl's ``Datum`` objects in lists.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"it has {size:,} bytes, more than any few-shot list")
    data = path.read_bytes()
    try:
        _check_opcodes(data)
        content = _Unpickler(data).load()
        names = ("train", "val") if "val" in content else ("train",)
        return {name: [_entry(image) for image in content[name]] for name in names}
    except Exception as error:  # a damaged or malicious pickle may raise nearly anything
        raise ValueError(f"it is not a pickle of image lists alone ({_first_line(error)})") from error


def _check_opcodes(data: bytes) -> None:
    """Refuses a pickle that calls something or takes more steps or memory than an image list."""
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name not in OPCODES:
            raise ValueError(f"operation {opcode.name}")
        if number > MOST_OPCODES:
            raise ValueError(f"more than {MOST_OPCODES:,} operations")
        if opcode.name in ("BINPUT", "LONG_BINPUT") and argument > number:
            raise ValueError(f"{opcode.name} of {argument}")


class _Unpickler(pickle.Unpickler):
    """Makes an empty object of an own class where the pickle names ``Datum``, and knows no other name."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.stand_in = type("StandIn", (), {})  # a new one each time: a pickle might write to it

    def find_class(self, module: str, name: str) -> Any:
        if name != "Datum":
            raise ValueError(f"the name {module}.{name}")
        return self.stand_in


def _entry(image: Any) -> Entry:
    """Path, label and class name of a pickled ``Datum``."""
    values = vars(image)
    entry = values["_impath"], values["_label"], values["_classname"]
    if [type(value) for value in entry] != [str, int, str]:
        raise ValueError(f"an image of {', '.join(type(value).__name__ for value in entry)}")
    return entry


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
