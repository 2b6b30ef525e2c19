"""Data sets in CoOp's layout: its shots, its classes, its order; clear errors where something is missing."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from datasets.base import SplitFileDataset
from runner.config import extend_cfg, import_all

SPLITS = {
    "caltech101": "Caltech101",
    "dtd": "DescribableTextures",
    "eurosat": "EuroSAT",
    "oxford_flowers": "OxfordFlowers",
    "oxford_pets": "OxfordPets",
    "stanford_cars": "StanfordCars",
    "ucf101": "UCF101",
}


def config(root: Path, name: str, shots: int = 16, seed: int = 1, subsample: str = "all") -> CfgNode:
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.DATASET.ROOT = str(root)
    cfg.DATASET.NAME = name
    cfg.DATASET.NUM_SHOTS = shots
    cfg.DATASET.SUBSAMPLE_CLASSES = subsample
    cfg.SEED = seed
    return cfg


def coop_root(folder: Path, assets: Path, name: str) -> Path:
    """A data root with the official split of a data set and an empty image folder."""
    import_all("datasets")
    kind = DATASET_REGISTRY.get(name)
    dataset = folder / kind.dataset_dir
    (dataset / kind.image_dir).mkdir(parents=True)
    (dataset / kind.split_file).symlink_to(assets / "real" / "splits" / kind.split_file)
    return folder


def relative(dataset: SplitFileDataset, items: list) -> list[str]:
    return [str(Path(item.impath).relative_to(dataset.image_dir)) for item in items]


@pytest.mark.parametrize("name", ["caltech101", "dtd", "eurosat", "oxford_flowers"])
def test_seeds_and_numbers_of_shots_draw_coops_images_in_its_order(
    assets: Path, tmp_path: Path, name: str
) -> None:
    published = json.loads((assets / "goldens" / "fewshot" / f"{name}.json").read_text())
    root = coop_root(tmp_path, assets, SPLITS[name])
    for seed, shots in ((1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (2, 4), (3, 16)):
        random.seed(99)  # numbers drawn before must not matter
        dataset = build_dataset(config(root, SPLITS[name], shots, seed))
        drawn = published[f"seed{seed}"][str(shots)]
        assert relative(dataset, dataset.train_x) == drawn["train"]
        assert relative(dataset, dataset.val) == drawn["val"]
    for part, classes in (("base", "base_classes"), ("new", "new_classes")):
        half = build_dataset(config(root, SPLITS[name], subsample=part))
        assert half.classnames == published[classes]
        assert {item.label for item in half.test} == set(range(len(half.classnames)))


def coops_rule(entries: list, shots: int, draw: Callable[[list, int], list]) -> list[str]:
    """CoOp's rule written down once more, on the lists of a split file: paths in the order of the draw."""
    of_label: dict[int, list[str]] = {}
    for path, label, _ in entries:
        of_label[label] = [*of_label.get(label, []), path]
    drawn = [draw(paths, shots) if len(paths) >= shots else paths for paths in of_label.values()]
    return [path for paths in drawn for path in paths]


@pytest.mark.parametrize("name", SPLITS)
def test_every_split_file_draws_by_coops_rule(assets: Path, tmp_path: Path, name: str) -> None:
    """Seed 0 and 30 shots (where some classes have fewer images) too, which the recorded draws lack."""
    root = coop_root(tmp_path, assets, SPLITS[name])
    kind = DATASET_REGISTRY.get(SPLITS[name])
    split = json.loads((root / kind.dataset_dir / kind.split_file).read_text())
    for seed, shots in ((0, 16), (2, 1), (7, 30)):
        generator = random.Random(seed)
        expected = [coops_rule(split["train"], shots, generator.sample)]
        expected.append(coops_rule(split["val"], min(shots, 4), generator.sample))
        for _ in range(2):  # drawn, then read from the stored list
            dataset = build_dataset(config(root, SPLITS[name], shots, seed))
            assert [relative(dataset, dataset.train_x), relative(dataset, dataset.val)] == expected
    classes = {label: classname for _, label, classname in split["train"]}
    names = [classes[label] for label in range(len(classes))]
    half = -(-len(names) // 2)
    assert build_dataset(config(root, SPLITS[name], subsample="base")).classnames == names[:half]
    assert build_dataset(config(root, SPLITS[name], subsample="new")).classnames == names[half:]


@pytest.mark.parametrize("name", SPLITS)
def test_official_splits_have_the_published_numbers(assets: Path, tmp_path: Path, name: str) -> None:
    lines = (assets / "facts" / "datasets.csv").read_text().splitlines()
    facts = {line.split(",")[0]: line.split(",") for line in lines}
    _, folder, split_file, *counts = facts[SPLITS[name]]
    root = coop_root(tmp_path, assets, SPLITS[name])
    dataset = build_dataset(config(root, SPLITS[name], shots=-1))
    assert (root / folder / split_file).is_file()
    sizes = [dataset.num_classes, len(dataset.train_x), len(dataset.val), len(dataset.test)]
    sizes += [
        build_dataset(config(root, SPLITS[name], subsample=half)).num_classes for half in ("base", "new")
    ]
    assert sizes == [int(count) for count in counts]


def test_opening_a_data_set_writes_nothing_into_its_folder(toy_data: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(toy_data, tmp_path / "data"))
    before = sorted(root.rglob("*"))
    for shots in (-1, 4):
        build_dataset(config(root, "Caltech101", shots=shots, seed=3))
    assert sorted(root.rglob("*")) == before


def test_a_missing_split_file_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "eurosat" / "2750").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"EuroSAT.json.*datasets.prepare EuroSAT --root"):
        build_dataset(config(tmp_path, "EuroSAT"))


@pytest.mark.parametrize(
    "content", ["<html>", "{}", '{"train": [["a.jpg"]]}', "[]", '{"train": 1}', "[" * 100_000]
)
def test_a_damaged_split_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "eurosat" / "2750").mkdir(parents=True)
    (tmp_path / "eurosat" / "split_zhou_EuroSAT.json").write_text(content)
    with pytest.raises(ValueError, match="split_zhou_EuroSAT.json.* is not a split file"):
        build_dataset(config(tmp_path, "EuroSAT"))


def imagenet(root: Path) -> Path:
    images = root / "imagenet" / "images"
    wnids = ["n03", "n01", "n02"]
    for wnid in wnids:
        for part, number in (("train", 7), ("val", 2)):
            (images / part / wnid).mkdir(parents=True)
            for i in range(number):
                (images / part / wnid / f"{i}.JPEG").touch()
    (root / "imagenet" / "classnames.txt").write_text("n01 great white shark\nn02 hen\nn03 tench\n")
    return root


def test_imagenet_labels_are_sorted_folders_and_val_stays_whole(tmp_path: Path) -> None:
    dataset = build_dataset(config(imagenet(tmp_path), "ImageNet", shots=5))
    assert dataset.classnames == ["great white shark", "hen", "tench"]
    assert len(dataset.train_x) == 15
    assert len(dataset.val) == len(dataset.test) == 6
    again = build_dataset(config(tmp_path, "ImageNet", shots=5))
    assert [item.impath for item in again.train_x] == [item.impath for item in dataset.train_x]


def test_imagenet_with_an_unsorted_val_folder_says_so(tmp_path: Path) -> None:
    root = imagenet(tmp_path)
    val = root / "imagenet" / "images" / "val"
    for folder in list(val.iterdir()):
        for file in folder.iterdir():
            file.rename(val / f"{folder.name}_{file.name}")
        folder.rmdir()
    with pytest.raises(FileNotFoundError, match="images/val.* has no class folders"):
        build_dataset(config(root, "ImageNet"))
