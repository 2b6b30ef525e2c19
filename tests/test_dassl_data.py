"""Data sets, few-shot draws, samplers, transforms and loaders of dassl/."""

import copy
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T

from dassl.data import DataManager, DatasetWrapper, data_manager
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.data.samplers import build_sampler
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from tests.test_dassl_toy import toy_cfg, toy_trainer


def data(*labels: int, domains: Any = None) -> list[Datum]:
    domains = domains or [0] * len(labels)
    return [
        Datum(f"{i}.png", label, domain, f"class {label}")
        for i, (label, domain) in enumerate(zip(labels, domains, strict=True))
    ]


def test_a_datum_does_not_touch_the_disk_and_checks_types() -> None:
    datum = Datum("/not/there.png", np.int64(3), classname="ant")
    assert (datum.impath, datum.label, datum.domain, datum.classname) == ("/not/there.png", 3, 0, "ant")
    assert type(datum.label) is int
    for wrong in ({"impath": 3}, {"impath": "a", "label": "3"}, {"impath": "a", "classname": None}):
        with pytest.raises(TypeError, match="must be"):
            Datum(**wrong)


def test_classes_are_those_of_the_training_list() -> None:
    dataset = DatasetBase(train_x=data(2, 0, 2), test=data(0))
    assert dataset.num_classes == 3
    assert dataset.lab2cname == {0: "class 0", 2: "class 2"}
    assert dataset.classnames == ["class 0", "class 2"]
    assert dataset.val is None
    with pytest.raises(ValueError, match="no training images"):
        DatasetBase(train_x=[], test=data(0))


def test_few_shot_draw_of_small_classes() -> None:
    dataset = DatasetBase(train_x=data(1, 1, 1, 0))
    assert dataset.generate_fewshot_dataset(dataset.train_x) is dataset.train_x
    drawn = dataset.generate_fewshot_dataset(dataset.train_x, num_shots=2)
    assert [item.label for item in drawn] == [1, 1, 0]
    repeated = dataset.generate_fewshot_dataset(dataset.train_x, num_shots=2, repeat=True)
    assert [item.label for item in repeated] == [1, 1, 0, 0]
    one, two = dataset.generate_fewshot_dataset(dataset.train_x, dataset.train_x, num_shots=1)
    assert len(one) == len(two) == 2


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("caltech101", "Caltech101"),
        ("dtd", "DescribableTextures"),
        ("eurosat", "EuroSAT"),
        ("oxford_flowers", "OxfordFlowers"),
    ],
)
def test_few_shot_draws_are_coops(assets: Path, name: str, file: str) -> None:
    split = json.loads((assets / "real" / "splits" / f"split_zhou_{file}.json").read_text())
    golden = json.loads((assets / "goldens" / "fewshot" / f"{name}.json").read_text())
    train, val = ([Datum(*item[:2], classname=item[2]) for item in split[part]] for part in ("train", "val"))
    base = DatasetBase(train_x=train, val=val)
    for seed in (1, 2, 3):
        for shots in (1, 2, 4, 8, 16):
            random.seed(seed)
            drawn = base.generate_fewshot_dataset(train, num_shots=shots)
            drawn_val = base.generate_fewshot_dataset(val, num_shots=min(shots, 4))
            expected = golden[f"seed{seed}"][str(shots)]
            assert [item.impath for item in drawn] == expected["train"]
            assert [item.impath for item in drawn_val] == expected["val"]


def test_samplers() -> None:
    source = data(*[0] * 15)
    assert list(build_sampler("SequentialSampler", source)) == list(range(15))
    assert sorted(build_sampler("RandomSampler", source)) == list(range(15))
    said = 'DATALOADER.TRAIN_X.SAMPLER is "RandomDomainSampler"; set it to one of Random.*; the original'
    with pytest.raises(ValueError, match=said):
        build_sampler("RandomDomainSampler", source)


def test_told_the_epoch_a_sampler_depends_on_nothing_else() -> None:
    def order(epoch: int, seed: int) -> list[int]:
        sampler = build_sampler("RandomSampler", data(*[0, 1] * 20))
        sampler.set_epoch(epoch, seed)
        state = torch.get_rng_state(), random.getstate()
        first = list(sampler)
        assert torch.equal(state[0], torch.get_rng_state())
        assert state[1] == random.getstate()
        return first

    assert order(3, 1) == order(3, 1)
    assert order(3, 1) != order(4, 1)
    assert order(3, 1) != order(3, 2)


def test_what_dassls_data_sets_have_and_ours_not_is_named() -> None:
    with pytest.raises(ValueError, match="DatasetBase has unlabelled training images .* DASSL_PATH"):
        DatasetBase(train_x=data(0), train_u=data(0), test=data(0))
    dataset = DatasetBase(train_x=data(0), test=data(0))
    assert dataset.train_u is None
    with pytest.raises(AttributeError, match="DatasetBase has no download_data, .* DASSL_PATH"):
        dataset.download_data("https://example.org", "here")
    assert copy.deepcopy(dataset).num_classes == 1


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    pixels = torch.randint(0, 256, (37, 53, 3), generator=torch.Generator().manual_seed(0))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def test_transforms_are_torchvisions_bit_for_bit(picture: Image.Image, tmp_path: Path) -> None:
    cfg = toy_cfg(tmp_path, tmp_path)
    cubic = T.InterpolationMode.BICUBIC
    tail = [T.ToTensor(), T.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)]
    test = T.Compose([T.Resize(8, interpolation=cubic), T.CenterCrop((8, 8)), *tail])
    assert torch.equal(build_transform(cfg, is_train=False)(picture), test(picture))
    crop = T.RandomResizedCrop((8, 8), scale=(0.08, 1.0), interpolation=cubic)
    train = T.Compose([crop, T.RandomHorizontalFlip(), *tail])
    torch.manual_seed(5)
    expected = train(picture)
    torch.manual_seed(5)
    assert torch.equal(build_transform(cfg, is_train=True)(picture), expected)


def test_every_transform_gives_a_tensor_of_the_size(picture: Image.Image, tmp_path: Path) -> None:
    cfg = toy_cfg(tmp_path, tmp_path)
    for name in ("center_crop", "random_translation", "random_resized_crop", "random_flip", "normalize"):
        for is_train in (True, False):
            tensor = build_transform(cfg, is_train=is_train, choices=[name])(picture)
            assert tensor.shape == (3, 8, 8), name
    assert list(INTERPOLATION_MODES) == ["bilinear", "bicubic", "nearest"]


def test_transform_mistakes_are_named(tmp_path: Path) -> None:
    cfg = toy_cfg(tmp_path, tmp_path)
    for name in ("flip", "colorjitter"):
        said = f'INPUT.TRANSFORMS is "{name}"; set it to one of random_flip, .*; the original Dassl'
        with pytest.raises(ValueError, match=said):
            build_transform(cfg, choices=[name])
    mean, std = cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD
    wrong = [("PIXEL_MEAN", [0.5]), ("PIXEL_MEAN", [0.5, float("nan"), 0.5]), ("PIXEL_MEAN", ["a", 0, 0])]
    for key, values in [*wrong, ("PIXEL_STD", [0.2, 0.0, 0.2]), ("PIXEL_STD", [-1, 1, 1]), ("PIXEL_STD", [])]:
        cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = mean, std
        cfg.INPUT[key] = values
        for is_train in (True, False):
            with pytest.raises(ValueError, match=f"INPUT.{key} is .*; set it to three numbers"):
                build_transform(cfg, is_train=is_train, choices=["normalize"])
    cfg.INPUT.PIXEL_STD = std
    cfg.INPUT.INTERPOLATION = "cubic"
    with pytest.raises(ValueError, match='INPUT.INTERPOLATION is "cubic"'):
        build_transform(cfg)


def test_an_item_depends_on_seed_epoch_and_index_alone(tmp_path: Path) -> None:
    manager = DataManager(toy_cfg(tmp_path, tmp_path))
    dataset = manager.train_loader_x.dataset
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    manager.set_epoch(3)
    images = [dataset[i]["img"] for i in range(15)]
    manager.set_epoch(4)
    other = dataset[2]["img"]
    manager.set_epoch(3)
    assert torch.equal(dataset[2]["img"], images[2])
    assert not torch.equal(other, images[2])
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    manager.data_seed = 2
    manager.set_epoch(3)
    assert not torch.equal(dataset[2]["img"], images[2])


def test_loaders_leave_torchs_generator_alone(tmp_path: Path) -> None:
    manager = DataManager(toy_cfg(tmp_path, tmp_path))
    state = torch.get_rng_state()
    for loader in (manager.train_loader_x, manager.val_loader, manager.test_loader):
        list(loader)
    assert torch.equal(state, torch.get_rng_state())


def test_living_workers_see_the_next_epoch(tmp_path: Path) -> None:
    batches = []
    for workers in (0, 2):
        manager = DataManager(toy_cfg(tmp_path, tmp_path, "DATALOADER.NUM_WORKERS", workers))
        for epoch in (0, 1, 2):
            manager.set_epoch(epoch)
            batches.append(torch.stack([batch["img"] for batch in manager.train_loader_x]))
    for epoch in (0, 1, 2):
        assert torch.equal(batches[epoch], batches[epoch + 3])
    assert not torch.equal(batches[0], batches[1])


def test_a_wrapper_that_was_not_told_the_epoch_draws_as_usual(tmp_path: Path) -> None:
    cfg = toy_cfg(tmp_path, tmp_path)
    train = DataManager(cfg).dataset.train_x
    wrapper = DatasetWrapper(cfg, train, transform=build_transform(cfg), is_train=True)
    assert not torch.equal(wrapper[0]["img"], wrapper[0]["img"])


def test_items_of_a_wrapper(tmp_path: Path) -> None:
    cfg = toy_cfg(tmp_path, tmp_path)
    train = DataManager(cfg).dataset.train_x
    plain = DatasetWrapper(cfg, train)[4]
    assert list(plain) == ["label", "domain", "impath", "index", "img"]
    assert (plain["label"], plain["domain"], plain["index"]) == (0, 0, 4)
    assert plain["img"].mode == "RGB"
    two = DatasetWrapper(cfg, train, transform=[T.ToTensor(), T.Grayscale()])[0]
    assert two["img"].shape == (3, 20, 24)
    assert two["img2"].mode == "L"
    draw = T.Lambda(lambda image: random.random())
    drawn = DatasetWrapper(cfg, train, transform=[draw, draw], is_train=True)
    drawn.set_epoch(0, 1)
    assert drawn[0]["img"] != drawn[0]["img2"]


class OwnWrapper(torch.utils.data.Dataset):
    """A user's wrapper that knows nothing of epochs."""

    def __init__(self, cfg: Any, data_source: Any, transform: Any = None, is_train: bool = False) -> None:
        self.data_source = data_source

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        return {"img": torch.rand(2), "label": self.data_source[idx].label}


def test_own_wrappers_and_transforms_are_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    cfg = toy_cfg(tmp_path, tmp_path, "DATALOADER.NUM_WORKERS", 1)
    manager = DataManager(cfg, T.ToTensor(), T.ToTensor(), dataset_wrapper=OwnWrapper)
    manager.set_epoch(1)
    assert next(iter(manager.train_loader_x))["img"].shape == (5, 2)
    assert "* Using custom transform for training" in caplog.messages
    assert "Building transform_train" not in caplog.messages


def test_the_last_batch_is_dropped_only_if_there_is_another(tmp_path: Path) -> None:
    for batch_size, batches in ((4, 3), (15, 1), (16, 1)):
        cfg = toy_cfg(tmp_path, tmp_path, "DATALOADER.TRAIN_X.BATCH_SIZE", batch_size)
        assert len(DataManager(cfg).train_loader_x) == batches
    assert len(DataManager(toy_cfg(tmp_path, tmp_path)).test_loader) == 3


def test_missing_and_broken_images_are_named(tmp_path: Path) -> None:
    cfg = toy_cfg(tmp_path, tmp_path)
    train = DataManager(cfg).dataset.train_x
    path = Path(train[1].impath)
    path.write_bytes(path.read_bytes()[:200])
    wrapper = DatasetWrapper(cfg, [*train, Datum("gone.png")])
    with pytest.raises(OSError, match=path.name):
        wrapper[1]
    with pytest.raises(FileNotFoundError, match="gone.png"):
        wrapper[15]


def test_missing_images_are_noticed_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = toy_trainer(tmp_path, tmp_path / "out")
    (tmp_path / "toy" / "test_bass_1.png").unlink()
    (tmp_path / "toy" / "test_crab_0.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r'^No image file at ".*test_bass_1.png" \(2 of 30 images are missing\); '
    ):
        trainer.train()
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError, match="test_bass_1.png"):
        trainer.test()
    monkeypatch.setattr(data_manager, "MAX_LOOKED_FOR", 29)
    trainer.dm.check_images()


def test_images_that_are_no_files_are_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = toy_cfg(tmp_path, tmp_path)
    DataManager(cfg, dataset_wrapper=OwnWrapper).check_images()
    nowhere = DatasetBase(train_x=[Datum()] * 5, test=[Datum()])
    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "ToyShapes", lambda cfg: nowhere)
    DataManager(cfg).check_images()
    other = DatasetBase(train_x=data(*[0] * 5), test=data(0))
    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "ToyShapes", lambda cfg: other)
    DataManager(cfg, dataset_wrapper=OwnWrapper).check_images()


def test_no_more_workers_than_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    cfg = toy_cfg(tmp_path, tmp_path, "DATALOADER.NUM_WORKERS", 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)
    assert DataManager(cfg).test_loader.num_workers == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert DataManager(cfg).test_loader.num_workers == 1
    assert not recwarn.list
    cfg.DATALOADER.NUM_WORKERS = 0
    assert DataManager(cfg).test_loader.num_workers == 0


def test_an_empty_test_split_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "ToyShapes", lambda cfg: DatasetBase(train_x=data(0, 1)))
    with pytest.raises(ValueError, match="ToyShapes has no test images"):
        DataManager(toy_cfg(tmp_path, tmp_path))
    with pytest.raises(ValueError, match=r'DATASET.NAME is "ToyShape"; .* \(did you mean ToyShapes\?\)'):
        DataManager(toy_cfg(tmp_path, tmp_path, "DATASET.NAME", "ToyShape"))
