"""Where jobs run: one place a GPU, or equal shares of the CPU's cores."""

import os
import re
import subprocess
from collections.abc import Sequence

from runner.schedule import Slot

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpu_slots(given: Sequence[str], jobs: int) -> list[Slot]:
    """``--gpus 0,1``: one slot a GPU, which is all that its job sees; ``all`` takes every GPU.

    Numbers count what the caller's CUDA_VISIBLE_DEVICES leaves, as torch does.

    Args:
        given: numbers, UUIDs of GPUs or MIG devices, or ``all``.
        jobs: how many there are to do; more slots are not made.

    Raises:
        ValueError: there is no such GPU.
    """
    visible = visible_gpus()
    names = [name for word in given for name in (list(visible) if word.lower() == "all" else [word])]
    if not names:
        raise ValueError(f'--gpus "{" ".join(given)}" names no GPU; {describe_gpus(visible)}')
    found = {name: find_gpu(name, visible) for name in names}
    if wrong := [name for name, device in found.items() if device is None]:
        raise ValueError(f"--gpus {', '.join(wrong)}: no such GPU; {describe_gpus(visible)}")
    names = names[: max(jobs, 1)]
    return [Slot(f"GPU {name}", {VISIBLE: found[name], **share(len(names))}) for name in names]


def cpu_slots(number: int, jobs: int) -> list[Slot]:
    """``--jobs N``: N slots that share the cores, but not more than there are jobs to do."""
    number = min(number, max(jobs, 1))
    return [Slot("", share(number)) for _ in range(number)]


def share(number: int) -> dict[str, str]:
    """The environment of each of ``number`` jobs at a time; what the caller's own says stays.

    OMP_NUM_THREADS shares the cores; by HEBA_JOBS dassl shares loader workers and memory for pictures.
    """
    if number == 1:
        return {}
    wanted = {"OMP_NUM_THREADS": max(cores() // number, 1), "HEBA_JOBS": number}
    return {name: os.environ.get(name, str(value)) for name, value in wanted.items()}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> dict[str, str]:
    """The GPUs that torch finds: their numbers there, and what a job's CUDA_VISIBLE_DEVICES calls them."""
    import torch  # its import takes seconds

    count = torch.cuda.device_count()
    listed = os.environ.get(VISIBLE)
    names = [str(number) for number in range(count)]
    devices = names if listed is None else [name.strip() for name in listed.split(",")]
    return dict(zip(names, devices, strict=False))


def find_gpu(name: str, visible: dict[str, str]) -> str | None:
    """What CUDA_VISIBLE_DEVICES must be for a number or UUID of ``--gpus``; None if there is no such GPU."""
    if name.isdecimal():
        return visible.get(str(int(name)))
    if not re.match(r"(GPU|MIG)-.", name):
        return None
    # A list of UUIDs in the environment is what there is; else nvidia-smi tells those of the machine.
    listed = os.environ.get(VISIBLE) is not None
    ids = list(visible.values()) if listed else uuids()
    return next((name for found in ids if found.startswith(name)), None) if visible else None


def uuids() -> list[str]:
    """The UUIDs of this machine's GPUs and MIG devices, as ``nvidia-smi`` lists them; none without it."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)", listed)


def describe_gpus(visible: dict[str, str]) -> str:
    """Which GPUs there are, for a message."""
    listed = os.environ.get(VISIBLE)
    left = "" if listed is None else f' with {VISIBLE}="{listed}"'
    if not visible:
        return f"torch finds none{left}; leave --gpus out to use the CPU (--jobs N: several jobs at a time)"
    shown = [name if name == device else f"{name} ({device})" for name, device in visible.items()]
    return f"torch finds {len(visible)}{left}: {', '.join(shown)}"
