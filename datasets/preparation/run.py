"""Preparing one data set: what is missing is fetched, unpacked, checked, and only then put in its place."""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from datasets.preparation import imagenet
from datasets.preparation.check import At, Report, at_home, is_published, problem_of, survey
from datasets.preparation.layout import clean, locate, place, set_aside, workspace
from datasets.preparation.sources import CLASSNAMES, File, Part, Source
from datasets.preparation.transfer import obtain, shown, with_mirror
from datasets.preparation.unpack import is_archive, unpack
from fileio.download import verify
from fileio.errors import Damaged, Unavailable, one_line

logger = logging.getLogger(__name__)


def prepare(source: Source, root: Path, *, mirror: str = "", keep: bool = False) -> Report:
    """Brings a data set below ``root`` to completeness, as far as its sources allow.

    Nothing is done to one that is ready. What is there is kept; what is missing is filled in. An interrupted
    call leaves unfinished work in ``<folder>/.prepare`` alone, and the next one continues it.

    Args:
        source: what to prepare.
        root: the data root.
        mirror: address that is tried before all sources, as ``<mirror>/<folder>/<file name>``.
        keep: keep downloaded archives in ``.prepare``.

    Returns:
        What is there afterwards.

    Raises:
        NoRoom: the disk is full.
        OSError: the folder cannot be written.
    """
    root = root.expanduser().absolute()
    report = survey(source, root)
    folder = root / source.folder
    spoilt = [
        part
        for part in source.parts
        if all((folder / path).exists() for path in part.paths) and problem_of(source, part, at_home(folder))
    ]
    if report.state == "ready" and not spoilt:
        logger.info("%s is ready in %s", source.name, folder)
        return report
    with workspace(folder) as work:
        job = Job(source, root, work, mirror, keep)
        parts = source.parts if report.state != "ready" else spoilt
        failures = [failure for part in parts for failure in job.bring(part)]
        failures += job.replace_split()
        report = survey(source, root)
        if report.state == "ready" and not keep:
            clean(work)
    if report.state != "ready":
        report.problems += failures
        if source.by_hand:
            report.problems.append(source.by_hand.format(folder=folder))
    return report


class Job:
    """The work on one data set.

    Args:
        source: the data set.
        root: the data root.
        work: folder for downloads and unpacking, on the file system of the data set's folder.
        mirror: address tried first.
        keep: keep downloaded archives.
    """

    def __init__(self, source: Source, root: Path, work: Path, mirror: str, keep: bool) -> None:
        self.source, self.root, self.work, self.mirror, self.keep = source, root, work, mirror, keep
        self.folder = root / source.folder
        self.downloads, self.unpacked = work / "downloads", work / "unpacked"
        self.failed: set[str] = set()  # sources that are not asked again
        self.waiting: dict[str, Path] = {}  # the split that replaces another one once its images are there

    def bring(self, part: Part) -> list[str]:
        """Makes a part complete; returns, where that fails, why: one line for each source that was tried."""
        what = ", ".join(part.paths)
        failures = []
        if part.paths == ("images/val",) and imagenet.is_flat(self.folder / "images/val"):
            try:
                imagenet.sort_validation(self.folder / "images/val", self.wnids())
            except Unavailable as error:
                failures.append(one_line(error))
        if not problem_of(self.source, part, self.future({})):
            return []
        for file, origin in self.candidates(part):
            try:
                self.settle(part, self.open(part, file, origin))
                return []
            except Unavailable as error:
                failures.append(f"{what}: {shown(origin)}: {one_line(error)}")
                logger.warning("%s: %s", shown(origin), one_line(error))
                self.failed.add(origin)
                if isinstance(error, Damaged):
                    self.forget(file)
        if part.required:
            return failures or [f"{what}: nothing to download it from"]
        logger.warning("%s: %s not fetched; training does not need it", self.source.name, what)
        return []

    def candidates(self, part: Part) -> Iterator[tuple[File, str]]:
        """Where a part may come from, in order: what is at hand, then the mirror and the sources."""
        for file in part.files:
            unpacked, at_hand = self.unpacked / file.name, [self.downloads / file.name]
            if is_archive(file.name):
                at_hand.append(self.folder / file.name)
            elif part.paths == (CLASSNAMES,):
                at_hand += sorted(self.root.glob(f"*/{CLASSNAMES}"))
            # ImageNet's training images may be unpacked in part: then the archive continues that.
            at_hand.insert(len(at_hand) if part.paths == ("images/train",) else 0, unpacked)
            yield from ((file, str(path)) for path in at_hand if path.exists())
        for file in part.files:
            place = f"{self.source.folder}/{file.name}"
            origins = with_mirror(file.sources, self.mirror, place)
            yield from ((file, origin) for origin in origins if origin not in self.failed)

    def open(self, part: Part, file: File, origin: str) -> dict[str, Path]:
        """Where each path of a part lies after fetching and unpacking.

        Raises:
            Unavailable: the file does not come, is damaged, or lacks a path.
        """
        unpacked = self.unpacked / file.name
        path = Path(origin)
        if not path.is_absolute():
            logger.info("fetching %s", shown(origin))
            path = obtain(file, origin, self.downloads)
        elif not path.is_relative_to(self.work):
            logger.info("checking %s", path)
            verify(path, sha256=file.sha256, md5=file.md5)
        if not is_archive(file.name):
            if not path.is_relative_to(self.work):
                path = Path(shutil.copyfile(path, self.work / file.name))
            return {part.paths[0]: path}
        if path != unpacked and part.paths == ("images/train",):
            imagenet.unpack_train(path, unpacked)
        elif path != unpacked:
            self.unpack(file, path, unpacked)
        if part.paths == ("images/val",):
            imagenet.sort_validation(unpacked, self.wnids())
        if path == self.downloads / file.name and not self.keep:
            path.unlink()
        if self.source.layout == "imagenet":
            return {part.paths[0]: unpacked}
        found = {name: locate(unpacked, file.inside or Path(name).name) for name in part.paths}
        lacking = [
            name for name, there in found.items() if there is None and not (self.folder / name).exists()
        ]
        if lacking:
            raise Damaged(f"{file.name} has no {', '.join(lacking)}")
        return {name: there for name, there in found.items() if there is not None}

    def unpack(self, file: File, archive: Path, target: Path) -> None:
        """Unpacks an archive, and the one inside it where there is one."""
        shutil.rmtree(target, ignore_errors=True)
        if not file.nested:
            unpack(archive, target)
            return
        outer = target.with_name(target.name + ".outer")
        shutil.rmtree(outer, ignore_errors=True)
        unpack(archive, outer)
        inner = locate(outer, file.nested)
        if inner is None:
            raise Damaged(f"{file.name} has no {file.nested}")
        unpack(inner, target)
        shutil.rmtree(outer)

    def settle(self, part: Part, found: dict[str, Path]) -> None:
        """Moves a part to its place, after checking that it is complete there, or will be.

        Raises:
            Damaged: images, classes or lists are not those that should be there.
        """
        if problem := problem_of(self.source, part, self.future(found)):
            raise Damaged(problem)
        if part.paths == (self.source.split,) and not is_published(self.source, found[self.source.split]):
            raise Damaged(f"{self.source.split} is another split than the published one")
        if part.paths == (self.source.split,) and (self.folder / self.source.split).is_file():
            self.waiting = found
            return
        for name, path in found.items():
            target = self.folder / name
            if target.is_file() and path.read_bytes() != target.read_bytes():
                set_aside(target)
            place(path, target)
        logger.info("%s: %s in place", self.source.name, ", ".join(part.paths))

    def replace_split(self) -> list[str]:
        """Puts a split in the place of another one if all its images are there; else says that it waits."""
        if not self.waiting:
            return []
        at, split = self.future({}), self.folder / self.source.split
        if any(part.required and problem_of(self.source, part, at) for part in self.source.parts):
            return [f"{split.name} stays as it is until the images of the complete one are there"]
        set_aside(split)
        place(self.waiting[self.source.split], split)
        self.waiting = {}
        return []

    def future(self, found: dict[str, Path]) -> At:
        """Where paths of the data set lie while ``found`` and a waiting split are not yet moved."""

        def at(path: str) -> Path:
            for name, there in {**self.waiting, **found}.items():
                if path == name or path.startswith(f"{name}/"):
                    return Path(os.path.normpath(there / os.path.relpath(path, name)))
            return self.folder / path

        return at

    def forget(self, file: File) -> None:
        """Deletes what was downloaded and unpacked of a file that is not what it should be."""
        (self.downloads / file.name).unlink(missing_ok=True)
        for suffix in ("", ".outer"):
            shutil.rmtree(self.unpacked / (file.name + suffix), ignore_errors=True)

    def wnids(self) -> dict[str, str]:
        """Class folder of each of ImageNet's validation images.

        Raises:
            Unavailable: no list of them can be had.
        """
        count = self.source.counts["val"]
        failures = []
        at_hand = [self.folder / imagenet.KAGGLE, self.folder / imagenet.LABELS.name]
        for path in at_hand:
            if path.is_file():
                return imagenet.read_wnids(path, count)
        place = f"{self.source.folder}/{imagenet.LABELS.name}"
        for origin in with_mirror(imagenet.LABELS.sources, self.mirror, place):
            try:
                return imagenet.read_wnids(obtain(imagenet.LABELS, origin, self.downloads), count)
            except Unavailable as error:
                failures.append(f"{origin}: {one_line(error)}")
        raise Unavailable(
            f"the classes of ImageNet's validation images are not known: {'; '.join(failures)}. Put "
            f"{imagenet.LABELS.name} (from TensorFlow's models) or {imagenet.KAGGLE} (from Kaggle) "
            f"into {self.folder}"
        )
