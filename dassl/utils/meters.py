"""Running means that do not make the host wait for the device."""

from collections import defaultdict

import torch


class AverageMeter:
    """Last value and running mean. Tensors stay on their device until ``val``, ``avg`` or ``sum`` is read."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._val: float | torch.Tensor = 0.0
        self._sum: float | torch.Tensor = 0.0
        self.count = 0

    def update(self, val: float | torch.Tensor, n: int = 1) -> None:
        """Adds ``val``, a number or a tensor of one element, ``n`` times."""
        if isinstance(val, torch.Tensor):
            if val.numel() != 1:
                raise ValueError(f"a meter takes one number, but got a tensor of shape {tuple(val.shape)}")
            val = val.detach().reshape(()).to(torch.float64, copy=True)
        self._val = val
        self._sum = self._sum + val * n
        self.count += n

    @property
    def val(self) -> float:
        return float(self._val)

    @property
    def sum(self) -> float:
        return float(self._sum)

    @property
    def avg(self) -> float:
        return self.sum / max(self.count, 1)


class MetricMeter:
    """Named meters, printed as ``name last (mean)`` in the order in which they first came."""

    def __init__(self, delimiter: str = " ") -> None:
        self.meters: defaultdict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict: dict[str, float | torch.Tensor] | None) -> None:
        """Adds one value for each name; None adds nothing."""
        if input_dict is None:
            return
        if not isinstance(input_dict, dict):
            raise TypeError(f"the loss summary must be a dictionary, but is a {type(input_dict).__name__}")
        for name, value in input_dict.items():
            self.meters[name].update(value)

    def __str__(self) -> str:
        return self.delimiter.join(f"{name} {m.val:.4f} ({m.avg:.4f})" for name, m in self.meters.items())
