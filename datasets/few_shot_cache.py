"""Few-shot lists that lie in a data set's folder, of other repositories of the family and of this one.

CoOp and its descendants keep ``<data set>/split_fewshot/shot_<n>-seed_<s>.pkl``; whoever uses the same folder
trains on the same images, so it is taken before our own draw. Nothing in such a file is executed. Ours is
``shot_<n>-seed_<s>.json`` beside it: paths below the image folder and the digest of the split they were drawn
from; used if it is CoOp's draw, written anew if not. A folder that may not be written to stays as it is.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import pickle
import pickletools
from collections import Counter
from pathlib import Path
from typing import Any

from dassl.data.datasets import Datum
from fileio import write_text

logger = logging.getLogger(__name__)

Lists = tuple[list[Datum], list[Datum]]  # for training and for validation

Entry = tuple[str, int, str]  # path, label, class name

COOPS = "the images that CoOp draws for this seed"
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


def kept_shots(stem: Path, image_dir: Path, split: Lists, drawn: Lists) -> Lists:
    """The lists of a stored few-shot file if there is one, else the drawn ones, which are stored.

    Args:
        stem: path of the file without its suffix.
        image_dir: folder that the paths of the split start from.
        split: the complete lists.
        drawn: CoOp's draw from them.

    Raises:
        ValueError: another repository's file is not a list of this split's images; says what to do.
    """
    theirs, ours = stem.with_suffix(".pkl"), stem.with_suffix(".json")
    if theirs.is_file():
        try:
            kept = find_all(read_pickle(theirs), image_dir, split, drawn)
        except (OSError, ValueError) as error:
            raise ValueError(
                f'few-shot list "{theirs}", made by other code, is not used: {error}; move it away, and '
                "CoOp's images are drawn anew"
            ) from error
        _say_which(theirs, kept, drawn)
        return kept
    content = json_list(image_dir, split, drawn)
    try:
        check_json_list(ours, content)
        logger.info("Few-shot list %s is used: %s", ours, COOPS)
    except FileNotFoundError:
        write_json_list(ours, content)
    except (OSError, ValueError, RecursionError) as error:
        logger.warning('few-shot list "%s" is not used: %s; drawn anew', ours, _first_line(error))
        write_json_list(ours, content)
    return drawn


def split_digest(image_dir: Path, split: Lists) -> str:
    """SHA-256 of what a draw depends on: path, label and class name of all images, in order."""
    digest = hashlib.sha256()
    for part in split:
        for item in part:
            digest.update(f"{_relative(item, image_dir)}\t{item.label}\t{item.classname}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()


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


def _say_which(path: Path, kept: Lists, drawn: Lists) -> None:
    """One line that says where the images come from, and whether they are CoOp's for this seed."""
    train, coops = kept[0], drawn[0]
    others = (_count(train, "impath") - _count(coops, "impath")).total()
    what = COOPS
    if others:
        what = f"not what CoOp draws for this seed: {others} of {len(train)} training images are others"
    elif [item.impath for item in train] != [item.impath for item in coops]:
        what = f"{COOPS}, in another order"
    logger.info("Few-shot list %s is used: %s", path, what)


def json_list(image_dir: Path, split: Lists, drawn: Lists) -> dict[str, Any]:
    """What our own file of a draw holds."""
    train, val = ([_relative(item, image_dir) for item in items] for items in drawn)
    return {"split_sha256": split_digest(image_dir, split), "train": train, "val": val}


def check_json_list(path: Path, content: dict[str, Any]) -> None:
    """Compares our own file with what it has to hold.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or was drawn from another split.
        RecursionError: it is damaged.
    """
    stored = json.loads(path.read_text("utf-8"))
    if stored == content:
        return
    if isinstance(stored, dict) and stored.get("split_sha256") not in (None, content["split_sha256"]):
        raise ValueError("it was drawn from another split")
    raise ValueError("it is damaged, it does not list what CoOp draws for this seed")


def write_json_list(path: Path, content: dict[str, Any]) -> None:
    """Writes our own file, whole or not at all; does nothing where the folder may not be written to."""
    with contextlib.suppress(OSError):
        folder = path.parent if path.parent.is_dir() else path.parent.parent
        if folder.stat().st_mode & 0o222:  # where it is marked read-only root could write, and should not
            path.parent.mkdir(exist_ok=True)
            write_text(path, json.dumps(content, indent=0) + "\n")


def read_pickle(path: Path) -> dict[str, list[Entry]]:
    """Another repository's file, as ``find_all`` takes it, read without executing anything from it.

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
