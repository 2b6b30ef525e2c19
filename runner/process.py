"""Settings of a process that must be made before torch is loaded; nothing here imports it."""

import ctypes
import os
import sys

# Numbers of glibc's mallopt (malloc.h) and the values they get.
ALLOCATOR = (
    (-4, 0),  # M_MMAP_MAX: no mapping of its own for a large tensor, which the kernel would zero each time
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: nothing is given back between steps
    (-2, 64 * 2**20),  # M_TOP_PAD: bytes fetched at once
)


def set_up_process() -> None:
    """Lets idle threads sleep and freed memory be used again; what the environment says already stands.

    Spinning threads starve loader workers and other processes. Memory that goes back to the kernel after each
    large tensor costs a page fault every 4 kB when the next one is written.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None and "LD_PRELOAD" not in os.environ:  # which may bring another allocator
        for option, value in ALLOCATOR:
            mallopt(option, value)
