"""Decoded images in memory, for few-shot training, which reads the same few files in every epoch."""

import os

import numpy as np
import torch
from PIL import Image

SHARED_MEMORY = "/dev/shm"  # where Linux counts what processes share; containers may have little of it
JOBS = "HEBA_JOBS"  # in the environment: how many jobs share this machine


def jobs_at_once() -> int:
    """How many jobs share this machine, as whoever started them says in ``HEBA_JOBS``; 1 if nobody does."""
    text = os.environ.get(JOBS, "")
    return max(int(text), 1) if text.isdecimal() else 1


class ImageCache:
    """RGB images by index, as they were put in, in one block of memory that loader processes share.

    Images are kept in the order in which they come until the block is full; nothing is given up for others.

    Args:
        number: of images.
        megabytes: size of the block (10^6 bytes); memory is taken as images come.
        shared: whether processes share it. Then the block is at most half of the shared memory that is free,
            divided by the number of jobs at a time: each sees it free when they start together, and takes it
            later.
    """

    def __init__(self, number: int, megabytes: float, shared: bool) -> None:
        size = int(megabytes * 1e6)
        if shared and os.path.isdir(SHARED_MEMORY):
            free = os.statvfs(SHARED_MEMORY)
            size = min(size, free.f_bavail * free.f_frsize // (2 * jobs_at_once()))
        storage = torch.UntypedStorage._new_shared(size) if shared else torch.UntypedStorage(size)
        self._bytes = torch.empty(0, dtype=torch.uint8).set_(storage)
        # start, height, width of each image; height 0: not there
        self._places = torch.zeros(number, 3, dtype=torch.int64)
        self._used = torch.zeros(1, dtype=torch.int64)
        self._lock = torch.multiprocessing.Lock() if shared else None
        if shared:
            self._places.share_memory_()
            self._used.share_memory_()

    def get(self, index: int) -> Image.Image | None:
        """The image, or None where it was not kept."""
        start, height, width = self._places[index].tolist()
        if height == 0:
            return None
        pixels = self._bytes[start : start + 3 * height * width].view(height, width, 3)
        return Image.fromarray(pixels.numpy())

    def put(self, index: int, image: Image.Image) -> None:
        """Keeps an RGB image if there is room."""
        size = 3 * image.height * image.width
        start = self._reserve(size)
        if start is not None:
            self._bytes[start : start + size] = torch.from_numpy(np.array(image).reshape(-1))
            self._places[index, 0] = start
            self._places[index, 2] = image.width
            self._places[index, 1] = image.height  # last: from now on the image is there

    def _reserve(self, size: int) -> int | None:
        """Start of ``size`` bytes that nobody else writes to; None where they are not left."""
        if self._lock is None:
            return self._take(size)
        with self._lock:
            return self._take(size)

    def _take(self, size: int) -> int | None:
        start = int(self._used)
        if start + size > len(self._bytes):
            return None
        self._used += size
        return start
