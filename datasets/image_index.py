"""Lists of the files in class folders, kept so that millions of files need not be listed for every run."""

import logging
import os
from pathlib import Path
from typing import Any

from datasets import storage
from datasets.raw_splits import LISTINGS, visible_files, visible_folders

logger = logging.getLogger(__name__)


def class_files(folder: Path, home: Path, listing: str) -> dict[str, list[str]]:
    """The files of each class folder in ``folder``; no file is touched.

    The list is kept as ``index_<folder>.json.gz`` in ``home``, or in the user's cache, with the time of the
    last change of each class folder: one to which a file was added, or from which one was removed, is listed
    again.

    Args:
        folder: holds the class folders.
        home: the data set's folder.
        listing: ``sorted``, or ``unsorted`` for the file system's order when the index was made.

    Returns:
        Files by class folder, folders in sorted order; both without hidden ones.

    Raises:
        FileNotFoundError: there are no class folders.
        ValueError: no such listing.
    """
    if listing not in LISTINGS:
        raise ValueError(f'DATASET.LISTING is "{listing}"; set it to {" or ".join(LISTINGS)}')
    folders = visible_folders(folder) if folder.is_dir() else []
    if not folders:
        raise FileNotFoundError(
            f'"{folder}" has no class folders (n01440764, …); sort the images into one folder a class'
        )
    changed = {name: os.stat(folder / name).st_mtime_ns for name in folders}
    name = f"index_{folder.name}.json.gz"
    known = read_index(home, name, set(folders))
    index = {}
    for wnid in folders:
        kept = known.get(wnid)
        if kept and kept[0] == changed[wnid]:
            index[wnid] = kept
        else:
            index[wnid] = [changed[wnid], visible_files(folder / wnid, "unsorted")]
    if index != known:
        path = storage.keep(index, home, name, replace=True)
        logger.info("Listed the files of %s%s", folder, f"; the list is kept in {path}" if path else "")
    return {wnid: sorted(files) if listing == "sorted" else files for wnid, (_, files) in index.items()}


def read_index(home: Path, name: str, folders: set[str]) -> dict[str, list]:
    """The kept list of these folders; empty if there is none of them that can be read."""
    for path in storage.places(home, name):
        if not path.is_file():
            continue
        try:
            index = storage.load(path)
        except ValueError:
            index = None
        if not is_index(index):
            logger.info("%s is no list of files as kept here; it is made again", path)
        elif index.keys() & folders:
            return index
    return {}


def is_index(index: Any) -> bool:
    """Whether this is a list as it is kept: ``{folder: [time of its last change, [file, …]]}``."""
    return isinstance(index, dict) and all(
        isinstance(kept, list)
        and len(kept) == 2
        and isinstance(kept[1], list)
        and all(isinstance(file, str) for file in kept[1])
        for kept in index.values()
    )
