"""The order in which a loader goes through its images."""

from collections.abc import Sequence

import torch
from torch.utils.data import RandomSampler as TorchRandomSampler
from torch.utils.data import Sampler, SequentialSampler

from dassl.config.defaults import ORIGINAL
from dassl.utils import check_availability, mix_seed


class RandomSampler(TorchRandomSampler):
    """Every image once, in random order.

    After ``set_epoch(epoch, seed)`` the order depends on these two numbers alone; before, it is drawn from
    the process's generator.
    """

    def set_epoch(self, epoch: int, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(mix_seed(seed, epoch))


SAMPLERS = {"RandomSampler": RandomSampler, "SequentialSampler": SequentialSampler}


def build_sampler(
    sampler_type: str, data_source: Sequence = (), key: str = "DATALOADER.TRAIN_X"
) -> Sampler[int]:
    """Returns the sampler called ``sampler_type`` over ``data_source``; ``key`` is its node, for messages."""
    check_availability(sampler_type, SAMPLERS, f"{key}.SAMPLER", ORIGINAL)
    return SAMPLERS[sampler_type](data_source)
