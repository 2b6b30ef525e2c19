"""Top-k accuracy."""

from collections.abc import Sequence

from torch import Tensor


def compute_accuracy(
    output: Tensor | Sequence[Tensor], target: Tensor, topk: Sequence[int] = (1,)
) -> list[Tensor]:
    """Percentage of rows whose target is among the k largest scores, one 1-element tensor for each k.

    Args:
        output: scores (B, C), or a sequence whose first element they are.
        target: labels (B,).
        topk: the values of k.
    """
    if isinstance(output, (list, tuple)):
        output = output[0]
    nearest = output.topk(max(topk), dim=1).indices  # (B, k)
    hits = nearest == target.view(-1, 1)
    return [hits[:, :k].float().sum().mul(100.0 / len(target)).reshape(1) for k in topk]
