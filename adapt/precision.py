"""What ``TRAINER.<Method>.PREC`` means, in one place."""

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import nn

AUTO = "auto"
# Flags in Linux's /proc/cpuinfo of x86 CPUs that multiply matrices of a half precision natively.
NATIVE_FLAGS = {
    torch.bfloat16: {"avx512_bf16", "amx_bf16"},
    torch.float16: {"avx512_fp16", "amx_fp16"},
}


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
        name: fp32, fp16, amp or bf16; ``auto`` must have been decided (``decide``).
        key: configuration key it came from, for the message.

    Raises:
        ValueError: no such precision.
    """
    if name not in PRECISIONS:
        raise ValueError(f'{key} is "{name}"; set it to one of {AUTO}, {", ".join(PRECISIONS)}')
    return PRECISIONS[name]


def decide(name: str, published: str, on_gpu: bool) -> str:
    """Returns the precision that ``PREC`` stands for: ``auto`` is ``published`` on a GPU, fp32 on a CPU."""
    if name != AUTO:
        return name
    return published if on_gpu else "fp32"


def is_emulated(name: str, device: torch.device) -> bool:
    """Whether the device is a CPU that has no instructions for this precision's products.

    Such products took 3 to 90 times as long as fp32's where it was measured.
    """
    compute = PRECISIONS[name].compute if name in PRECISIONS else torch.float32
    return device.type == "cpu" and compute != torch.float32 and not is_native(compute)


def is_native(dtype: torch.dtype) -> bool:
    """Whether this CPU multiplies matrices of a half precision natively; False where that is not known."""
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()  # oneDNN leaves newer instructions alone
    if not re.search("ALL|DEFAULT|BF16|FP16|AMX|AVX10", allowed):
        return False
    return not NATIVE_FLAGS[dtype].isdisjoint(cpu_flags())


@cache
def cpu_flags() -> frozenset[str]:
    """The flags in Linux's /proc/cpuinfo; none on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except (OSError, ValueError):
        return frozenset()
    line = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return frozenset(line[1].split()) if line else frozenset()
