"""The table of the data sets (``sources.yaml``) as objects: what each consists of, where it comes from."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

# The split files a second time, kept by Lin et al. ("Multimodality Helps Unimodality", CVPR 2023).
SPLITS = (
    "https://raw.githubusercontent.com/linzhiqiu/cross_modal_adaptation"
    "/ac9077ee4e422f768c9b9109551468605e33ec9a/splits/"
)
# Fourteen data sets with their split files, a zip each, kept by Li et al. (PromptKD, CVPR 2024).
WHOLE = "hf:zhengli97/prompt_learning_dataset/{}@ceb3112337fb6e1bf71534e355ca5569b63f19a6"
CLASSNAMES = "classnames.txt"
# CoOp's file; else the same names from installed packages (transfer.py: from_packages).
CLASSNAMES_SOURCES = ("gdrive:1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF", "packages:classnames")


@dataclass(frozen=True)
class File:
    """One file to fetch.

    Attributes:
        name: its file name; it is also looked for in the data set's folder, where it may be put by hand.
        sources: where to get it, in the order in which they are tried; all deliver the same bytes.
        md5: its MD5 sum, "" where none is published.
        sha256: its SHA-256 sum, "" where none is published.
        nested: name of an archive inside this archive that holds what is wanted.
        inside: name inside the archive of the one path it is fetched for, where it is another.
    """

    name: str
    sources: tuple[str, ...] = ()
    md5: str = ""
    sha256: str = ""
    nested: str = ""
    inside: str = ""


@dataclass(frozen=True)
class Part:
    """Files or folders of a data set that come together.

    Attributes:
        paths: what lies in the data set's folder afterwards.
        files: alternatives, in order; each brings all of ``paths``.
        required: whether the loaders need it; what they do not need may fail.
    """

    paths: tuple[str, ...]
    files: tuple[File, ...]
    required: bool = True


@dataclass(frozen=True, eq=False)
class Source:
    """A data set: its place, what it consists of, and how many images and classes it has when complete.

    Attributes:
        name: registry name, as ``DATASET.NAME``.
        config: name of its YAML file, which is also how the command line calls it.
        folder: folder below the data root.
        layout: ``split`` (a split file lists the images), ``aircraft`` (text files list them), ``imagenet``
            (class folders below train and val) or ``folders`` (class folders, test images only).
        images: folder of the images; paths in a split file start there.
        classes: number of classes.
        counts: images of each split.
        parts: what to fetch, in this order.
        split: name of the split file.
        split_digest: first 16 hex digits of the SHA-256 of the published split, parsed and dumped again by
            Python's ``json`` so that white space does not matter; "" where it is not known.
        by_hand: what to do where no source delivers.
    """

    name: str
    config: str
    folder: str
    layout: str
    images: str
    classes: int
    counts: dict[str, int]
    parts: tuple[Part, ...]
    split: str = ""
    split_digest: str = ""
    by_hand: str = ""


@cache
def load_sources() -> tuple[Source, ...]:
    """All fifteen data sets, in the order of the table."""
    table = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return tuple(_source(name, entry) for name, entry in table.items())


def find_source(name: str, sources: tuple[Source, ...]) -> Source:
    """The data set of a registry name or YAML file name, in any case.

    Raises:
        ValueError: there is none; names those that there are.
    """
    for source in sources:
        if name.lower() in (source.name.lower(), source.config, source.folder):
            return source
    known = ", ".join(source.config for source in sources)
    raise ValueError(f'no data set is called "{name}"; there are: {known}')


def _source(name: str, entry: dict[str, Any]) -> Source:
    whole = []
    if "whole" in entry:
        whole = [_file({"sources": [WHOLE.format(entry["whole"]["name"])], **entry.pop("whole")})]
    parts = []
    if "split" in entry:
        split = entry["split"]
        sources = (f"gdrive:{entry.pop('split_drive')}", SPLITS + split)
        parts.append(Part((split,), (File(split, sources), *whole)))
    elif entry["layout"] != "aircraft":
        parts.append(Part((CLASSNAMES,), (File(CLASSNAMES, CLASSNAMES_SOURCES),)))
    for part in entry.pop("parts"):
        required = part.get("required", True)
        files = [_file(file) for file in part["files"]] + (whole if required else [])
        parts.append(Part(tuple(part["paths"]), tuple(files), required))
    return Source(name=name, parts=tuple(parts), **entry)


def _file(entry: dict[str, Any]) -> File:
    return File(**{**entry, "sources": tuple(entry.get("sources", ()))})
