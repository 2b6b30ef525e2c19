"""Decoded training images in memory: the pixels of the files, in every process, within the budget."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data import DatasetWrapper, image_cache
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import Datum
from dassl.data.image_cache import ImageCache
from dassl.data.transforms import build_transform

SIZES = [(40, 30), (33, 47), (64, 16), (31, 31), (50, 20), (20, 50)]  # width, height


@pytest.fixture
def source(tmp_path: Path) -> list[Datum]:
    """Photographs of noise, one of them grey."""
    generator = torch.Generator().manual_seed(0)
    for number, (width, height) in enumerate(SIZES):
        pixels = torch.randint(256, (height, width, 3), generator=generator, dtype=torch.uint8)
        image = Image.fromarray(pixels.numpy()).convert("L" if number == 2 else "RGB")
        image.save(tmp_path / f"{number}.jpg")
    return [Datum(str(tmp_path / f"{number}.jpg"), label=0) for number in range(len(SIZES))]


def epochs(source: list[Datum], workers: int, megabytes: float, remove: bool = False) -> list[torch.Tensor]:
    """Three epochs of augmented images; with ``remove`` the files are gone after the first two."""
    cfg = get_cfg_default()
    cfg.INPUT.update(SIZE=(16, 16), TRANSFORMS=("random_resized_crop", "random_flip"))
    cfg.DATALOADER.update(NUM_WORKERS=workers, CACHE_MB=megabytes)
    transform = build_transform(cfg, is_train=True)
    loader = build_data_loader(cfg, "SequentialSampler", source, 3, tfm=transform, is_train=True)
    found = []
    for epoch in range(3):
        loader.dataset.set_epoch(epoch, 7)
        if remove and epoch == 2:
            for item in source:
                Path(item.impath).unlink()
        found.append(torch.cat([batch["img"] for batch in loader]))
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_from_memory_have_the_same_pixels_and_read_no_file(source: list[Datum], workers: int) -> None:
    plain = epochs(source, workers, 0)
    kept = epochs(source, workers, 1.0, remove=True)
    assert not torch.equal(plain[0], plain[1])
    for one, other in zip(plain, kept, strict=True):
        assert torch.equal(one, other)


def test_images_beyond_the_budget_are_decoded_each_time(source: list[Datum]) -> None:
    room = 3 * sum(width * height for width, height in SIZES[:3]) / 1e6
    for one, other in zip(epochs(source, 0, 0), epochs(source, 0, room), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(FileNotFoundError, match=r"3\.jpg"):  # the first one that had no room
        epochs(source, 0, room, remove=True)


def test_test_images_are_not_kept(source: list[Datum]) -> None:
    assert DatasetWrapper(get_cfg_default(), source)._cache is None
    assert DatasetWrapper(get_cfg_default(), source, is_train=True)._cache is not None


def test_shared_memory_is_taken_to_the_half_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        f_bavail, f_frsize = 2, 3 * 40 * 30

    monkeypatch.setattr(image_cache, "SHARED_MEMORY", str(tmp_path))
    monkeypatch.setattr(image_cache.os, "statvfs", lambda _: Little)
    cache = ImageCache(2, 1.0, shared=True)
    image = Image.new("RGB", (40, 30), "red")
    cache.put(0, image)
    cache.put(1, image)
    assert cache.get(0).tobytes() == image.tobytes()
    assert cache.get(1) is None
