"""The order in which a training loader goes through its images.

Samplers that draw have ``set_epoch(epoch, seed)``: from then on their order depends on these two numbers
alone. Without it they draw from the process's generators.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import RandomSampler as TorchRandomSampler
from torch.utils.data import Sampler, SequentialSampler
from yacs.config import CfgNode

from dassl.utils import check_availability, mix_seed

TRAIN_X = "DATALOADER.TRAIN_X"  # where a configuration has what samplers take, for messages


class RandomSampler(TorchRandomSampler):
    """Every image once, in random order."""

    def set_epoch(self, epoch: int, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(mix_seed(seed, epoch))


class _GroupSampler(Sampler[int]):
    """Batches of several groups with equally many images each; stops when the images run short.

    Args:
        groups: indices of each group.
        n_groups: groups a batch.
        n_images: images of each group in a batch.
        fill: groups with fewer images than that repeat some; else they end the epoch.
        in_order: a batch's groups are in ascending order; else in random order.
    """

    def __init__(
        self,
        groups: dict[int, list[int]],
        n_groups: int,
        n_images: int,
        *,
        fill: bool = False,
        in_order: bool = False,
    ) -> None:
        self.groups = groups
        self.n_groups = n_groups
        self.n_images = n_images
        self.fill = fill
        self.in_order = in_order
        self.seeded = False
        self.order = self._draw(random)

    def set_epoch(self, epoch: int, seed: int) -> None:
        self.seeded = True
        self.order = self._draw(random.Random(mix_seed(seed, epoch)))

    def _draw(self, rng: random.Random) -> list[int]:
        chunks: dict[int, list[list[int]]] = {}
        for group, indices in self.groups.items():
            indices = rng.sample(indices, len(indices))
            if self.fill and len(indices) < self.n_images:
                indices = rng.choices(indices, k=self.n_images)
            starts = range(0, len(indices) - self.n_images + 1, self.n_images)
            chunks[group] = [indices[start : start + self.n_images] for start in starts]
        order = []
        open_groups = [group for group in chunks if chunks[group]]
        while len(open_groups) >= self.n_groups:
            drawn = rng.sample(open_groups, self.n_groups)
            for group in sorted(drawn) if self.in_order else drawn:
                order += chunks[group].pop()
            open_groups = [group for group in open_groups if chunks[group]]
        return order

    def __iter__(self) -> Iterator[int]:
        if not self.seeded:
            self.order = self._draw(random)
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


class RandomDomainSampler(_GroupSampler):
    """Batches of ``n_domain`` random domains with equal shares; 0 or less: all domains."""

    def __init__(self, data_source: Sequence, batch_size: int, n_domain: int, key: str = TRAIN_X) -> None:
        groups = _indices_by(data_source, "domain")
        n_domain = n_domain if n_domain > 0 else len(groups)
        if n_domain > len(groups):
            raise ValueError(
                f"{key}.N_DOMAIN is {n_domain}, but the training images have {len(groups)} domains"
            )
        if batch_size % n_domain:
            raise ValueError(
                f"{key}.BATCH_SIZE is {batch_size}; set it to a multiple of the {n_domain} domains"
            )
        super().__init__(groups, n_domain, batch_size // n_domain)


class SeqDomainSampler(_GroupSampler):
    """Batches of all domains in ascending order with equal shares of random images."""

    def __init__(self, data_source: Sequence, batch_size: int, key: str = TRAIN_X) -> None:
        groups = _indices_by(data_source, "domain")
        if batch_size % len(groups):
            raise ValueError(
                f"{key}.BATCH_SIZE is {batch_size}; set it to a multiple of the {len(groups)} domains"
            )
        super().__init__(groups, len(groups), batch_size // len(groups), in_order=True)


class RandomClassSampler(_GroupSampler):
    """Batches of random classes with ``n_ins`` images each."""

    def __init__(self, data_source: Sequence, batch_size: int, n_ins: int, key: str = TRAIN_X) -> None:
        if not 0 < n_ins <= batch_size:
            raise ValueError(
                f"{key}.N_INS is {n_ins}; set it between 1 and BATCH_SIZE, which is {batch_size}"
            )
        groups = _indices_by(data_source, "label")
        if batch_size // n_ins > len(groups):
            raise ValueError(
                f"{key}.BATCH_SIZE {batch_size} with N_INS {n_ins} asks for {batch_size // n_ins} classes a "
                f"batch, but the training images have {len(groups)}"
            )
        super().__init__(groups, batch_size // n_ins, n_ins, fill=True)


def _indices_by(data_source: Sequence, attribute: str) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = defaultdict(list)
    for index, item in enumerate(data_source):
        groups[getattr(item, attribute)].append(index)
    return dict(groups)


def build_sampler(
    sampler_type: str,
    cfg: CfgNode | None = None,
    data_source: Sequence = (),
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
    key: str = TRAIN_X,
) -> Sampler[int]:
    """The sampler called ``sampler_type`` over ``data_source``; ``cfg`` is not read.

    ``key`` is where the configuration has what is given here, for messages.
    """
    samplers = {
        "RandomSampler": lambda: RandomSampler(data_source),
        "SequentialSampler": lambda: SequentialSampler(data_source),
        "RandomDomainSampler": lambda: RandomDomainSampler(data_source, batch_size, n_domain, key),
        "SeqDomainSampler": lambda: SeqDomainSampler(data_source, batch_size, key),
        "RandomClassSampler": lambda: RandomClassSampler(data_source, batch_size, n_ins, key),
    }
    check_availability(sampler_type, samplers, f"{key}.SAMPLER")
    return samplers[sampler_type]()
