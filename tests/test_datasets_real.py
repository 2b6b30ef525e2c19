"""Real photographs of EuroSAT and Caltech101: both loaders, all protocols, every picture, test pixels."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision import transforms as T

from dassl.data import DataManager
from dassl.data.datasets import build_dataset
from tests.test_datasets import config

REAL = {
    "EuroSAT": (10, 16, 4, 100),
    "Caltech101": (100, 16, 4, 5),
}  # classes, and images a class in each part
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("shots", [1, 16, -1])
def test_all_protocols_have_their_classes_and_images(assets: Path, name: str, shots: int) -> None:
    classes, *numbers = REAL[name]
    parts = {
        part: build_dataset(config(assets / "real" / "data", name, shots=shots, subsample=part))
        for part in ("all", "base", "new")
    }
    if shots > 0:
        numbers[:2] = [shots, min(shots, 4)]
    for part, dataset in parts.items():
        here = classes if part == "all" else classes // 2
        assert dataset.num_classes == len(dataset.classnames) == here
        assert [len(images) for images in (dataset.train_x, dataset.val, dataset.test)] == [
            here * number for number in numbers
        ]
        assert sorted({item.label for item in dataset.test}) == list(range(here))
    assert parts["base"].classnames + parts["new"].classnames == parts["all"].classnames
    halves = parts["base"].test + parts["new"].test
    assert {item.impath for item in halves} == {item.impath for item in parts["all"].test}
    assert all(Path(item.impath).is_file() for item in parts["all"].train_x + parts["all"].test)


@pytest.mark.parametrize("name", REAL)
def test_every_picture_becomes_the_tensor_that_plain_torchvision_makes(assets: Path, name: str) -> None:
    cfg = config(assets / "real" / "data", name, shots=-1)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.TEST.BATCH_SIZE = 100
    cfg.INPUT.INTERPOLATION = "bicubic"
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "normalize")
    cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = MEAN, STD
    cfg.INPUT.SIZE = (64, 64)
    plain = T.Compose(
        [
            T.Resize(64, interpolation=T.InterpolationMode.BICUBIC),
            T.CenterCrop(64),
            T.ToTensor(),
            T.Normalize(MEAN, STD),
        ]
    )
    manager = DataManager(cfg)
    number = 0
    for loader in (manager.val_loader, manager.test_loader):
        for batch in loader:
            for path, pixels in zip(batch["impath"], batch["img"], strict=True):
                with Image.open(path) as image:
                    assert torch.equal(pixels, plain(image.convert("RGB"))), path
                number += 1
    for item in manager.dataset.train_x:
        with Image.open(item.impath) as image:
            assert image.convert("RGB").getextrema() != ((0, 0), (0, 0), (0, 0)), item.impath
            number += 1
    assert number == REAL[name][0] * sum(REAL[name][1:])
