"""What ``TRAINER.<Method>.PREC`` means, in one place."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Precision:
    """How frozen CLIP weights are stored and in which type the forward pass computes.

    Trainable weights are float32 always, so the optimiser never works on half numbers.
    """

    storage: torch.dtype
    compute: torch.dtype

    def store(self, model: nn.Module) -> nn.Module:
        """Casts linear and attention weights in place; the residual stream and all others stay float32."""
        model.float()
        for module in model.modules():
            if isinstance(module, nn.Linear) or hasattr(module, "in_proj_weight"):
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.to(self.storage)
        return model

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context of a forward pass; does nothing in float32."""
        enabled = self.compute != torch.float32
        return torch.autocast(device.type, dtype=self.compute if enabled else None, enabled=enabled)

    def grad_scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Loss scaling for float16; passes everything through otherwise."""
        return torch.amp.GradScaler(device.type, enabled=self.compute == torch.float16)


PRECISIONS = {
    "fp32": Precision(torch.float32, torch.float32),
    "fp16": Precision(torch.float16, torch.float16),
    "amp": Precision(torch.float32, torch.float16),
    "bf16": Precision(torch.bfloat16, torch.bfloat16),
}


def get_precision(name: str, key: str) -> Precision:
    """Looks up a precision.

    Args:
        name: fp32, fp16, amp or bf16.
        key: configuration key it came from, for the message.

    Raises:
        ValueError: no such precision.
    """
    if name not in PRECISIONS:
        raise ValueError(f'{key} is "{name}"; set it to one of {", ".join(PRECISIONS)}')
    return PRECISIONS[name]
