"""Splits drawn from raw annotations where CoOp's split file is missing: its rules and names; said."""

import json
import logging
import random
from pathlib import Path

import numpy as np
import pytest

from dassl.data.datasets import build_dataset
from datasets.base import SplitFileDataset
from tests.test_datasets import config

FOLDERS = {  # registry name: folder, image folder, class folders made here and the names they go by
    "Caltech101": (
        "caltech-101",
        "101_ObjectCategories",
        {
            "Faces": "face",
            "Leopards": "leopard",
            "Motorbikes": "motorbike",
            "airplanes": "airplane",
            "ant": "ant",
        },
    ),
    "DescribableTextures": ("dtd", "images", {"banded": "banded", "dotted": "dotted"}),
    "Food101": ("food-101", "images", {"apple_pie": "apple_pie", "waffles": "waffles"}),
    "EuroSAT": (
        "eurosat",
        "2750",
        {
            "AnnualCrop": "Annual Crop Land",
            "Forest": "Forest",
            "HerbaceousVegetation": "Herbaceous Vegetation Land",
            "Highway": "Highway or Road",
            "Industrial": "Industrial Buildings",
            "Pasture": "Pasture Land",
            "PermanentCrop": "Permanent Crop Land",
            "Residential": "Residential Buildings",
            "River": "River",
            "SeaLake": "Sea or Lake",
        },
    ),
}


def lists(dataset: SplitFileDataset) -> list[list[tuple[str, int, str]]]:
    return [
        [(str(Path(item.impath).relative_to(dataset.image_dir)), item.label, item.classname) for item in part]
        for part in (dataset.train_x, dataset.val, dataset.test)
    ]


def make_folders(root: Path, name: str, images: int = 10) -> Path:
    folder, image_dir, classes = FOLDERS[name]
    for number, wnid in enumerate(
        [*classes, *(["BACKGROUND_Google", "Faces_easy"] if name == "Caltech101" else [])]
    ):
        place = root / folder / image_dir / wnid
        place.mkdir(parents=True)
        for image in range(images + number):
            (place / f"{image:03d}.jpg").touch()
        (place / ".hidden").touch()
    return root / folder


def coops_trainval(items: list[tuple], seed: int) -> list[list[tuple]]:
    """CoOp's ``split_trainval``, as the facts have it, with Python's global generator."""
    random.seed(seed)
    parts = [[], []]
    for label in dict.fromkeys(item[1] for item in items):
        of_class = [item for item in items if item[1] == label]
        random.shuffle(of_class)
        n_val = round(len(of_class) * 0.2)
        parts[1] += of_class[:n_val]
        parts[0] += of_class[n_val:]
    return parts


@pytest.mark.parametrize("name", FOLDERS)
def test_class_folders_are_split_by_coops_rule(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_folders(tmp_path, name)
    classes = FOLDERS[name][2]
    with caplog.at_level(logging.WARNING):
        drawn = lists(build_dataset(config(tmp_path, name, shots=-1, seed=3)))
    random.seed(1)
    expected = [[], [], []]
    for label, folder in enumerate(sorted(classes)):
        number = 10 + list(classes).index(folder)
        files = [f"{folder}/{image:03d}.jpg" for image in range(number)]
        random.shuffle(files)
        cuts = [0, round(0.5 * number), round(0.5 * number) + round(0.2 * number), number]
        for part in range(3):
            expected[part] += [(file, label, classes[folder]) for file in files[cuts[part] : cuts[part + 1]]]
    assert drawn == expected
    assert f"{name}: this is not the official split" in caplog.text
    assert "not comparable with published ones" in caplog.text
    assert f"python -m datasets.prepare {name} --root" in caplog.text


def test_every_run_draws_the_same_split_and_the_data_folder_stays_as_it_is(tmp_path: Path) -> None:
    folder = make_folders(tmp_path, "DescribableTextures")
    before = sorted(folder.rglob("*"))
    first, *others = (
        lists(build_dataset(config(tmp_path, "DescribableTextures", shots=-1, seed=seed)))
        for seed in (1, 2, -1)
    )
    assert others == [first, first]
    assert sorted(folder.rglob("*")) == before


def test_a_split_that_an_earlier_version_drew_is_used_with_the_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_folders(tmp_path, "DescribableTextures")
    split = {
        part: [[f"{name}/00{number}.jpg", label, name] for label, name in enumerate(("banded", "dotted"))]
        for number, part in enumerate(("train", "val", "test"))
    }
    (folder / "split_zhou_DescribableTextures.json").write_text(json.dumps({**split, "note": "drawn"}))
    dataset = build_dataset(config(tmp_path, "DescribableTextures", shots=-1))
    assert lists(dataset)[2] == [("banded/002.jpg", 0, "banded"), ("dotted/002.jpg", 1, "dotted")]
    assert "not the official split" in caplog.text


def test_the_file_systems_order_is_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folders(tmp_path, "DescribableTextures")
    import os

    listdir = os.listdir
    monkeypatch.setattr("os.listdir", lambda path: sorted(listdir(path), reverse=True))
    cfg = config(tmp_path, "DescribableTextures", shots=-1)
    drawn = lists(build_dataset(cfg))
    cfg.DATASET.LISTING = "unsorted"
    random.seed(1)
    files = [f"banded/{image:03d}.jpg" for image in reversed(range(10))]
    random.shuffle(files)
    other = lists(build_dataset(cfg))
    assert [path for path, label, _ in other[0] if label == 0] == files[:5]
    assert other != drawn
    cfg.DATASET.LISTING = "size"
    with pytest.raises(FileNotFoundError, match='DATASET.LISTING is "size"; set it to sorted or unsorted'):
        build_dataset(cfg)


def test_a_class_with_too_few_images_is_named(tmp_path: Path) -> None:
    make_folders(tmp_path, "DescribableTextures", images=1)
    with pytest.raises(FileNotFoundError, match='class "banded" has 1 images, too few'):
        build_dataset(config(tmp_path, "DescribableTextures"))


def test_pets_come_from_their_annotations(tmp_path: Path) -> None:
    folder = tmp_path / "oxford_pets"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    breeds = [("Abyssinian", 1), ("american_bulldog", 2), ("Egyptian_Mau", 3)]
    for name, numbers in (("trainval", range(10)), ("test", range(10, 14))):
        lines = [f"{breed}_{i} {label} 1 1\n" for breed, label in breeds[::-1] for i in numbers]
        (folder / "annotations" / f"{name}.txt").write_text("".join(lines))
    items = [
        (f"{breed}_{i}.jpg", label - 1, breed.lower()) for breed, label in breeds[::-1] for i in range(10)
    ]
    drawn = lists(build_dataset(config(tmp_path, "OxfordPets", shots=-1, seed=2)))
    assert drawn[:2] == coops_trainval(items, seed=1)
    assert drawn[2][0] == ("Egyptian_Mau_10.jpg", 2, "egyptian_mau")
    assert len(drawn[2]) == 12


def test_sun397_comes_from_its_partition_lists(tmp_path: Path) -> None:
    folder = tmp_path / "sun397"
    (folder / "SUN397").mkdir(parents=True)
    classes = ["/a/abbey", "/a/apartment_building/outdoor", "/y/youth_hostel"]
    names = ["abbey", "outdoor apartment_building", "youth_hostel"]
    (folder / "ClassName.txt").write_text("\n".join(classes) + "\n")
    for file, numbers in (("Training_01.txt", range(10)), ("Testing_01.txt", range(10, 13))):
        (folder / file).write_text("".join(f"{place}/sun_{i}.jpg\n" for place in classes for i in numbers))
    items = [
        (f"{place[1:]}/sun_{i}.jpg", label, names[label])
        for label, place in enumerate(classes)
        for i in range(10)
    ]
    drawn = lists(build_dataset(config(tmp_path, "SUN397", shots=-1)))
    assert drawn[:2] == coops_trainval(items, seed=1)
    assert drawn[2][3] == ("a/apartment_building/outdoor/sun_10.jpg", 1, "outdoor apartment_building")


def test_ucf101_actions_are_cut_at_their_capitals(tmp_path: Path) -> None:
    folder = tmp_path / "ucf101"
    (folder / "UCF-101-midframes").mkdir(parents=True)
    (folder / "ucfTrainTestlist").mkdir()
    actions = ["ApplyEyeMakeup", "HandstandPushups", "YoYo"]
    videos = ["ApplyEyeMakeup", "HandStandPushups", "YoYo"]
    folders = ["Apply_Eye_Makeup", "Handstand_Pushups", "Yo_Yo"]
    write = lambda name, lines: (folder / "ucfTrainTestlist" / name).write_text("".join(lines))  # noqa: E731
    write("classInd.txt", [f"{label} {action}\n" for label, action in enumerate(actions, start=1)])
    pairs = list(zip(actions, videos, strict=True))
    write("trainlist01.txt", [f"{a}/v_{v}_g{i:02d}_c01.avi 1\n" for a, v in pairs for i in range(10)])
    write("testlist01.txt", [f"{a}/v_{v}_g{i:02d}_c01.avi\n" for a, v in pairs for i in range(10, 12)])
    items = [
        (f"{folders[label]}/v_{videos[label]}_g{i:02d}_c01.jpg", label, folders[label])
        for label in range(3)
        for i in range(10)
    ]
    drawn = lists(build_dataset(config(tmp_path, "UCF101", shots=-1)))
    assert drawn[:2] == coops_trainval(items, seed=1)
    assert drawn[2][2] == ("Handstand_Pushups/v_HandStandPushups_g10_c01.jpg", 1, "Handstand_Pushups")


def test_flowers_come_from_the_mat_file_in_the_order_of_the_images(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    folder = tmp_path / "oxford_flowers"
    (folder / "jpg").mkdir(parents=True)
    labels = [2] * 10 + [1] * 12 + [3] * 11
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    names = {"1": "pink primrose", "2": "hard-leaved pocket orchid", "3": "canterbury bells"}
    (folder / "cat_to_name.json").write_text(json.dumps(names))
    drawn = lists(build_dataset(config(tmp_path, "OxfordFlowers", shots=-1)))
    random.seed(1)
    expected = [[], [], []]
    start = 1
    for label, number in ((2, 10), (1, 12), (3, 11)):
        files = [f"image_{start + i:05d}.jpg" for i in range(number)]
        start += number
        random.shuffle(files)
        cuts = [0, round(0.5 * number), round(0.5 * number) + round(0.2 * number), number]
        for part in range(3):
            expected[part] += [
                (file, label - 1, names[str(label)]) for file in files[cuts[part] : cuts[part + 1]]
            ]
    assert drawn == expected


def test_cars_come_from_the_devkit_with_the_year_in_front(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    folder = tmp_path / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    models = ["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"]
    names = ["2000 AM General Hummer SUV", "2012 Ram C/V Cargo Van Minivan"]
    meta = np.empty((1, 2), dtype=object)
    meta[0] = models
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": meta})

    def annotations(path: Path, number: int) -> None:
        fields = [("bbox_x1", object), ("class", object), ("fname", object)]
        rows = np.empty((1, 2 * number), dtype=fields)
        for i in range(2 * number):
            rows[0, i] = (np.array([[1]]), np.array([[2 - i // number]], dtype=np.uint8), f"{i + 1:05d}.jpg")
        savemat(path, {"annotations": rows})

    annotations(folder / "devkit" / "cars_train_annos.mat", 10)
    annotations(folder / "cars_test_annos_withlabels.mat", 3)
    items = [(f"cars_train/{i + 1:05d}.jpg", 1 - i // 10, names[1 - i // 10]) for i in range(20)]
    drawn = lists(build_dataset(config(tmp_path, "StanfordCars", shots=-1)))
    assert drawn[:2] == coops_trainval(items, seed=1)
    assert drawn[2][0] == ("cars_test/00001.jpg", 1, "2012 Ram C/V Cargo Van Minivan")


def test_the_split_file_needs_no_annotations_and_no_scipy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stanford_cars"
    folder.mkdir()
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(FileNotFoundError, match=r"prepare StanfordCars .* needs scipy: pip install scipy"):
        build_dataset(config(tmp_path, "StanfordCars"))
    names = ["2000 AM General Hummer SUV", "2012 Acura RL Sedan"]
    split = {
        part: [[f"cars_{part}/{label}.jpg", label, name] for label, name in enumerate(names)]
        for part in ("train", "val", "test")
    }
    (folder / "split_zhou_StanfordCars.json").write_text(json.dumps(split))
    dataset = build_dataset(config(tmp_path, "StanfordCars", shots=-1))
    assert dataset.test[0].impath == str(folder / "cars_test" / "0.jpg")


def test_a_missing_annotation_file_is_named_beside_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "sun397" / "SUN397").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"split_zhou_SUN397.json.*prepare SUN397 .*ClassName.txt"):
        build_dataset(config(tmp_path, "SUN397"))


@pytest.mark.parametrize("name", ["Caltech101", "DescribableTextures"])  # EuroSAT has 27,000 files
def test_labels_and_names_by_the_rule_are_the_official_splits(
    assets: Path, tmp_path: Path, name: str
) -> None:
    official = json.loads((assets / "real" / "splits" / f"split_zhou_{name}.json").read_text())
    items = official["train"] + official["val"] + official["test"]
    folder, image_dir, _ = FOLDERS[name]
    for path, _, _ in items:
        (tmp_path / folder / image_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / image_dir / path).touch()
    drawn = lists(build_dataset(config(tmp_path, name, shots=-1)))
    assert sorted(item for part in drawn for item in part) == sorted(tuple(item) for item in items)
    assert [len(part) for part in drawn] == [len(official[part]) for part in ("train", "val", "test")]
