"""One image with its label, and lists of them."""

import logging
import operator
import random
from collections.abc import Sequence
from typing import Any

logger = logging.getLogger(__name__)


class Datum:
    """One image: where it is and what it shows. The file is not touched before the image is read.

    Args:
        impath: path of the image.
        label: class, from 0.
        domain: domain, from 0.
        classname: name of the class.
    """

    def __init__(self, impath: str = "", label: int = 0, domain: int = 0, classname: str = "") -> None:
        if not isinstance(impath, str):
            raise TypeError(f"impath must be a string, but got {impath!r}")
        if not isinstance(classname, str):
            raise TypeError(f"classname must be a string, but got {classname!r} for {impath}")
        try:
            self._label = operator.index(label)
            self._domain = operator.index(domain)
        except TypeError:
            raise TypeError(
                f"label and domain must be integers, but got {label!r} and {domain!r} for {impath}"
            ) from None
        self._impath = impath
        self._classname = classname

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname


class DatasetBase:
    """The lists of a data set. Classes and their names are those of ``train_x``.

    Args:
        train_x: labelled training images.
        train_u: unlabelled training images; not supported.
        val: validation images.
        test: test images.
    """

    dataset_dir = ""  # the data set's folder below DATASET.ROOT
    domains: Sequence[str] = ()

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        train_u: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ) -> None:
        if not train_x:
            raise ValueError(
                f"{type(self).__name__} has no training images, so its classes are not known; "
                f'look at its folder "{self.dataset_dir}" and its split file'
            )
        if train_u:
            raise ValueError(
                f"{type(self).__name__} has unlabelled training images (train_u), which this reduced Dassl "
                "cannot train on; leave them out, or use the original Dassl by DASSL_PATH"
            )
        self._train_x = train_x
        self._val = val
        self._test = test
        self._num_classes = self.get_num_classes(train_x)
        self._lab2cname, self._classnames = self.get_lab2cname(train_x)

    @property
    def train_x(self) -> list[Datum]:
        return self._train_x

    @property
    def train_u(self) -> None:
        return None

    @property
    def val(self) -> list[Datum] | None:
        return self._val

    @property
    def test(self) -> list[Datum] | None:
        return self._test

    @property
    def lab2cname(self) -> dict[int, str]:
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        return self._classnames

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @staticmethod
    def get_num_classes(data_source: list[Datum]) -> int:
        """Largest label + 1."""
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source: list[Datum]) -> tuple[dict[int, str], list[str]]:
        """Class name of each label, and the names in the order of the labels."""
        mapping = {item.label: item.classname for item in data_source}
        return mapping, [mapping[label] for label in sorted(mapping)]

    def generate_fewshot_dataset(
        self, *data_sources: list[Datum], num_shots: int = -1, repeat: bool = False
    ) -> list[Datum] | Sequence[list[Datum]]:
        """Draws ``num_shots`` images of each class with Python's global generator.

        One ``random.sample`` a class, classes in the order in which they first appear: the same seed gives
        the images that CoOp's code draws.

        Args:
            data_sources: one or more lists.
            num_shots: images a class; below 1 everything is kept.
            repeat: draw with replacement where a class has fewer images; else take what is there.

        Returns:
            The drawn list, or as many lists as were given.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        logger.info("Creating a %d-shot dataset", num_shots)
        drawn = [self._draw(source, num_shots, repeat) for source in data_sources]
        return drawn[0] if len(drawn) == 1 else drawn

    def _draw(self, source: list[Datum], num_shots: int, repeat: bool) -> list[Datum]:
        drawn = []
        for items in self.split_dataset_by_label(source).values():
            if len(items) >= num_shots:
                drawn += random.sample(items, num_shots)
            elif repeat:
                drawn += random.choices(items, k=num_shots)
            else:
                drawn += items
        return drawn

    def split_dataset_by_label(self, data_source: list[Datum]) -> dict[int, list[Datum]]:
        """The images of each label; labels in the order in which they first appear."""
        groups: dict[int, list[Datum]] = {}
        for item in data_source:
            groups.setdefault(item.label, []).append(item)
        return groups

    def __getattr__(self, name: str) -> Any:
        """Names a missing attribute: ``check_input_domains`` or ``download_data``, for example."""
        raise AttributeError(
            f"{type(self).__name__} has no {name}, nor has this reduced Dassl's DatasetBase; define it, "
            "or use the original Dassl by DASSL_PATH"
        )
