"""From a data set to batches: the wrapper that reads and transforms images, and the loaders of a run."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL.Image import Image
from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from dassl.config.defaults import check_fixed
from dassl.data.datasets import Datum, build_dataset
from dassl.data.image_cache import ImageCache, jobs_at_once
from dassl.data.samplers import build_sampler
from dassl.data.transforms import build_transform
from dassl.utils import isolated_rng, mix_seed, read_image
from dassl.utils.stopping import heed_only_parent

logger = logging.getLogger(__name__)

Transform = Callable[[Image], Any]

MAX_LOOKED_FOR = 100_000  # images; on a slow disk more of them take minutes


class DataManager:
    """Data set and loaders of a run.

    A run's training data depend on ``data_seed`` and the epoch alone, not on the number of worker processes,
    and neither loaders nor augmentation draw from the process's generators.

    Args:
        cfg: the whole configuration.
        custom_tfm_train: transform, or list of transforms, instead of the configured training transform.
        custom_tfm_test: the same for validation and test.
        dataset_wrapper: class to use instead of ``DatasetWrapper``, with the same arguments. If it has
            ``set_epoch(epoch, seed)`` that is called before each epoch.
    """

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Transform | Sequence[Transform] | None = None,
        custom_tfm_test: Transform | Sequence[Transform] | None = None,
        dataset_wrapper: type[Dataset] | None = None,
    ) -> None:
        check_fixed(cfg)
        self.data_seed = cfg.SEED if cfg.SEED >= 0 else int(torch.randint(2**63 - 1, ()))
        self.dataset = dataset = self.read_dataset(cfg)
        if custom_tfm_train is None:
            tfm_train = build_transform(cfg, is_train=True)
        else:
            logger.info("* Using custom transform for training")
            tfm_train = custom_tfm_train
        if custom_tfm_test is None:
            tfm_test = build_transform(cfg, is_train=False)
        else:
            logger.info("* Using custom transform for testing")
            tfm_test = custom_tfm_test

        def loader(part: str, data_source: list[Datum], tfm: Any) -> DataLoader:
            node = cfg.DATALOADER[part]
            return build_data_loader(
                cfg,
                sampler_type=node.SAMPLER,
                data_source=data_source,
                batch_size=node.BATCH_SIZE,
                tfm=tfm,
                is_train=part == "TRAIN_X",
                dataset_wrapper=dataset_wrapper,
                generator=torch.Generator(),
                key=f"DATALOADER.{part}",
            )

        self.train_loader_x = loader("TRAIN_X", dataset.train_x, tfm_train)
        self.train_loader_u = None  # Dassl's loader of unlabelled images, which no method of the family has
        self.val_loader = loader("TEST", dataset.val, tfm_test) if dataset.val else None
        if not dataset.test:
            raise ValueError(f"data set {cfg.DATASET.NAME} has no test images; look at its folder and split")
        self.test_loader = loader("TEST", dataset.test, tfm_test)

        self.set_epoch(0)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)
        self.num_classes = dataset.num_classes
        self.num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self.lab2cname = dataset.lab2cname

    def read_dataset(self, cfg: CfgNode) -> Any:
        """The run's data set."""
        return build_dataset(cfg)

    def set_epoch(self, epoch: int) -> None:
        """Makes order and augmentation of the training images those of ``epoch``, counted from 0."""
        loader = self.train_loader_x
        loader.generator.manual_seed(mix_seed(self.data_seed, epoch))
        for part in (loader.sampler, loader.dataset):
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch, self.data_seed)

    def check_classes(self) -> None:
        """Whether every class that is evaluated can be trained.

        Raises:
            ValueError: a class has images for validation or test, but none for training.
        """
        dataset = self.dataset
        trained = {item.label for item in dataset.train_x}
        for part in ("val", "test"):
            untrained = [item for item in getattr(dataset, part) or () if item.label not in trained]
            if untrained:
                first = untrained[0]
                raise ValueError(
                    f'"{dataset.dataset_dir}": class "{first.classname}" (label {first.label}) has {part} '
                    f'images ("{first.impath}", …) but none to train on; give it some in train, or take it '
                    f"out of {part}"
                )

    def check_images(self) -> None:
        """Looks for every image that training and its tests will read, if they are not too many to look for.

        Own dataset wrappers are passed by: where they read from is their affair.

        Raises:
            FileNotFoundError: images are missing; names the first.
        """
        loaders = filter(None, (self.train_loader_x, self.val_loader, self.test_loader))
        sources = [loader.dataset.data_source for loader in loaders if type(loader.dataset) is DatasetWrapper]
        paths = {getattr(item, "impath", ""): None for source in sources for item in source}  # each once
        paths.pop("", None)
        if len(paths) > MAX_LOOKED_FOR:
            return
        missing = [path for path in paths if not os.path.isfile(path)]
        if missing:
            raise FileNotFoundError(
                f'No image file at "{missing[0]}" ({len(missing):,} of {len(paths):,} images are missing); '
                "is the data set complete?"
            )

    def show_dataset_summary(self, cfg: CfgNode) -> None:
        """Logs a table of what there is."""
        dataset = self.dataset
        rows = [["Dataset", cfg.DATASET.NAME]]
        if cfg.DATASET.SOURCE_DOMAINS:
            rows.append(["Source", cfg.DATASET.SOURCE_DOMAINS])
        if cfg.DATASET.TARGET_DOMAINS:
            rows.append(["Target", cfg.DATASET.TARGET_DOMAINS])
        rows.append(["# classes", f"{dataset.num_classes:,}"])
        for name in ("train_x", "val", "test"):
            if getattr(dataset, name):
                rows.append([f"# {name}", f"{len(getattr(dataset, name)):,}"])
        logger.info(tabulate(rows))


def build_data_loader(
    cfg: CfgNode,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence[Datum] = (),
    batch_size: int = 64,
    tfm: Transform | Sequence[Transform] | None = None,
    is_train: bool = True,
    dataset_wrapper: type[Dataset] | None = None,
    generator: torch.Generator | None = None,
    key: str = "DATALOADER.TRAIN_X",
) -> DataLoader:
    """A loader over ``data_source``; in training an incomplete last batch is dropped if there is another.

    Without ``generator`` each pass over the loader draws a number from torch's global generator. ``key`` is
    where the configuration has what is given here, for messages.
    """
    sampler = build_sampler(sampler_type, data_source, key)
    dataset = (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train)
    workers = min(cfg.DATALOADER.NUM_WORKERS, max(_num_cpus() // jobs_at_once(), 1))  # with more, torch warns
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
        # a wrapper that cannot be told the epoch draws from its worker's generators: new workers every epoch
        persistent_workers=workers > 0 and is_train and hasattr(dataset, "set_epoch"),
        generator=generator,
        worker_init_fn=heed_only_parent,
    )


def _num_cpus() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class DatasetWrapper(Dataset):
    """Reads and transforms the images of a list.

    An item is a dictionary of ``label``, ``domain``, ``impath``, ``index`` and ``img``: the PIL image without
    a transform; ``img``, ``img2`` and so on with a list of transforms.

    Once ``set_epoch`` was called, random transforms draw from generators seeded by seed, epoch, index, view:
    an item is the same in whatever process it is made. Before, they draw from the process's own generators.
    Training images are decoded once, as far as ``DATALOADER.CACHE_MB`` has room.

    Args:
        cfg: reads ``DATALOADER`` and ``INPUT``.
        data_source: the images.
        transform: transform or list of transforms.
        is_train: whether transforms are random.
    """

    def __init__(
        self,
        cfg: CfgNode,
        data_source: Sequence[Datum],
        transform: Transform | Sequence[Transform] | None = None,
        is_train: bool = False,
    ) -> None:
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.upright = cfg.INPUT.get("EXIF_TRANSPOSE", False)  # not in Dassl
        # epoch (-1: not told) and seed, in shared memory: worker processes that live on see the next epoch
        self._epoch = torch.tensor([-1, 0]).share_memory_()
        room = cfg.DATALOADER.get("CACHE_MB", 0) if is_train else 0  # not in Dassl
        self._cache = ImageCache(len(data_source), room, cfg.DATALOADER.NUM_WORKERS > 0) if room > 0 else None

    def set_epoch(self, epoch: int, seed: int) -> None:
        """Sets what the random transforms depend on, besides the item."""
        self._epoch[0] = epoch
        self._epoch[1] = seed

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        item = self.data_source[idx]
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": idx}
        img0 = self._read(idx)
        if self.transform is None:
            output["img"] = img0
        else:
            tfms = self.transform if isinstance(self.transform, (list, tuple)) else [self.transform]
            for i, tfm in enumerate(tfms):
                output["img" if i == 0 else f"img{i + 1}"] = self._view(tfm, img0, idx, i)
        return output

    def _read(self, idx: int) -> Image:
        """The decoded image, from memory if it is there."""
        image = self._cache.get(idx) if self._cache is not None else None
        if image is None:
            image = read_image(self.data_source[idx].impath, upright=self.upright)
            if self._cache is not None:
                self._cache.put(idx, image)
        return image

    def _view(self, tfm: Transform, img0: Image, idx: int, number: int) -> Any:
        epoch, seed = self._epoch.tolist()
        if not self.is_train or epoch < 0:
            return tfm(img0)
        with isolated_rng(mix_seed(seed, epoch, idx, number)):
            return tfm(img0)
