"""Which classes a training step tells apart."""

import torch


def sample_classes(label: torch.Tensor, num_classes: int, ratio: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The classes of a batch and ``ratio`` times as many random others (HeBA, LwEIB: negative sampling).

    As in the published code all classes are used when ``ratio`` is negative or there are no more classes than
    images in the batch.

    Args:
        label: ``(B,)`` labels, on the host so that nothing waits for the device.
        num_classes: number of classes C of the data set.
        ratio: negative classes for each class of the batch; 0 is none.

    Returns:
        ``(C',)`` chosen classes, those of the batch first, and ``(B,)`` labels as positions among them.
    """
    if ratio < 0 or num_classes <= len(label):
        return torch.arange(num_classes), label
    positive, target = torch.unique(label, return_inverse=True)
    is_negative = torch.ones(num_classes, dtype=torch.bool)
    is_negative[positive] = False
    negative = is_negative.nonzero().squeeze(1)
    chosen = torch.randperm(len(negative))[: ratio * len(positive)]
    return torch.cat([positive, negative[chosen]]), target
