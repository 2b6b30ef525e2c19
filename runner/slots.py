"""Where jobs run: one place a GPU, or equal shares of the CPU's cores."""

import os
import subprocess

from runner.schedule import Slot


def gpu_slots(text: str) -> list[Slot]:
    """``--gpus 0,1``: one slot a GPU, which is all that its job sees; ``all`` takes every GPU of the machine.

    Raises:
        ValueError: nothing is named, or ``all`` finds no GPU.
    """
    names = gpus_here() if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f'--gpus "{text}" names no GPU (nvidia-smi lists those of this machine)')
    return [Slot(f"GPU {name}", {"CUDA_VISIBLE_DEVICES": name}) for name in names]


def cpu_slots(jobs: int) -> list[Slot]:
    """``--jobs N``: N slots that share the cores; OMP_NUM_THREADS of the caller's environment stays."""
    if jobs < 1:
        raise ValueError(f"--jobs is {jobs}; set it to 1 or more")
    if jobs == 1:
        return [Slot("")]
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(cores() // jobs, 1)))}
    return [Slot("", threads) for _ in range(jobs)]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus_here() -> list[str]:
    """The GPUs of this machine by number, as ``nvidia-smi`` lists them; none without it."""
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []
