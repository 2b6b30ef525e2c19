"""ImageNet, its variants and FGVC-Aircraft on small made-up folders: labels, names, errors."""

import json
import logging
import os
from pathlib import Path

import pytest
from PIL import Image

import train
from dassl.data import DataManager
from dassl.data.datasets import build_dataset
from datasets.imagenet import class_files
from tests.conftest import train_words
from tests.test_datasets import config
from trainers.class_texts import DATASETS, class_texts

NAMES = "n01 great white shark\nn02 sunglasses\nn03 sunglasses\n"


def make_files(folder: Path, classes: dict[str, list[str]]) -> None:
    for name, files in classes.items():
        (folder / name).mkdir(parents=True)
        for file in files:
            (folder / name / file).touch()


def imagenet(root: Path) -> Path:
    for part, number in (("train", 7), ("val", 2)):
        files = [f"{i}.JPEG" for i in range(number)]
        make_files(root / "imagenet" / "images" / part, {"n03": files, "n01": files, "n02": files})
    (root / "imagenet" / "classnames.txt").write_text(NAMES)
    return root / "imagenet"


def test_opening_leaves_the_folder_as_it_is_and_needs_no_list_of_an_earlier_version(tmp_path: Path) -> None:
    folder = imagenet(tmp_path)
    (folder / "index_train.json.gz").write_bytes(b"no list of files")
    before = sorted(folder.rglob("*"))
    assert len(build_dataset(config(tmp_path, "ImageNet", shots=4)).train_x) == 12
    assert sorted(folder.rglob("*")) == before


def test_the_order_of_the_file_system_is_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = imagenet(tmp_path) / "images" / "train"
    listdir = os.listdir
    monkeypatch.setattr("os.listdir", lambda path: sorted(listdir(path), reverse=True))
    files = [f"{i}.JPEG" for i in range(7)]
    assert class_files(folder, "unsorted")["n01"] == files[::-1]
    assert class_files(folder, "sorted")["n01"] == files
    cfg = config(tmp_path, "ImageNet", shots=-1)
    cfg.DATASET.LISTING = "unsorted"
    assert Path(build_dataset(cfg).train_x[0].impath).name == "6.JPEG"
    cfg.DATASET.LISTING = "mtime"
    with pytest.raises(ValueError, match='DATASET.LISTING is "mtime"; set it to sorted or unsorted'):
        build_dataset(cfg)


def test_an_image_that_vanished_is_named_when_it_is_read(tmp_path: Path) -> None:
    folder = imagenet(tmp_path)
    cfg = config(tmp_path, "ImageNet", shots=-1)
    cfg.DATALOADER.NUM_WORKERS = 0
    manager = DataManager(cfg)
    (folder / "images" / "val" / "n01" / "0.JPEG").unlink()
    with pytest.raises(FileNotFoundError, match=r'No image file at ".*val/n01/0.JPEG"'):
        manager.test_loader.dataset[0]


def test_a_folder_that_classnames_names_twice_is_refused(tmp_path: Path) -> None:
    folder = NAMES.split()[0]
    (imagenet(tmp_path) / "classnames.txt").write_text(f"{NAMES}\n{folder} another name\n")
    with pytest.raises(ValueError, match=f'classnames.txt": folder "{folder}" stands there twice'):
        build_dataset(config(tmp_path, "ImageNet", shots=-1))


def test_folders_that_classnames_does_not_name_are_refused(tmp_path: Path) -> None:
    folder = imagenet(tmp_path)
    (folder / "images" / "train" / "n99").mkdir()
    with pytest.raises(
        ValueError, match=r'images/train" holds 1 folders that classnames.txt does not name, e.g. "n99"'
    ):
        build_dataset(config(tmp_path, "ImageNet"))


@pytest.mark.parametrize(
    ("part", "empty"), [("val", False), ("val", True), ("train", True), ("train", False)]
)
def test_a_class_that_train_or_val_lacks_is_named_and_shifts_no_label(
    tmp_path: Path, part: str, empty: bool
) -> None:
    lacking = imagenet(tmp_path) / "images" / part / "n02"
    for file in lacking.iterdir():
        file.unlink()
    if not empty:
        lacking.rmdir()
    with pytest.raises(ValueError, match=rf'images/{part}" has no images of 1 of the classes.*\(n02\)'):
        build_dataset(config(tmp_path, "ImageNet", shots=-1))


def test_class_names_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (imagenet(tmp_path) / "classnames.txt").write_text("\ufeff" + NAMES, encoding="utf-8")
    assert build_dataset(config(tmp_path, "ImageNet", shots=-1)).classnames[0] == "great white shark"


VARIANTS = {
    "ImageNetSketch": ("imagenet-sketch", "images"),
    "ImageNetA": ("imagenet-adversarial", "imagenet-a"),
    "ImageNetR": ("imagenet-rendition", "imagenet-r"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_label_their_own_sorted_folders(tmp_path: Path, name: str) -> None:
    folder, images = VARIANTS[name]
    make_files(tmp_path / folder / images, {"n03": ["b.jpg", "a.jpg"], "n01": ["c.jpg"]})
    (tmp_path / folder / images / "README.txt").touch()
    (tmp_path / folder / "classnames.txt").write_text(NAMES)
    dataset = build_dataset(config(tmp_path, name, shots=1, subsample="new"))
    assert dataset.classnames == ["great white shark", "sunglasses"]
    assert dataset.num_classes == 2
    found = [("/".join(Path(item.impath).parts[-2:]), item.label) for item in dataset.test]
    assert found == [("n01/c.jpg", 0), ("n03/a.jpg", 1), ("n03/b.jpg", 1)]
    assert dataset.train_x is dataset.test
    assert not dataset.val


def test_imagenetv2_folders_are_lines_of_classnames(tmp_path: Path) -> None:
    images = tmp_path / "imagenetv2" / "imagenetv2-matched-frequency-format-val"
    make_files(images, {str(label): [f"{label}.jpeg"] for label in range(11)})
    names = [f"n{label:02d} class number {label}\n" for label in range(11)]
    (tmp_path / "imagenetv2" / "classnames.txt").write_text("".join(names))
    dataset = build_dataset(config(tmp_path, "ImageNetV2"))
    assert dataset.classnames == [f"class number {label}" for label in range(11)]
    assert [(Path(item.impath).name, item.label) for item in dataset.test][9:] == [
        ("9.jpeg", 9),
        ("10.jpeg", 10),
    ]
    (images / "3" / "3.jpeg").unlink()
    (images / "3").rmdir()
    with pytest.raises(ValueError, match='0 to 10; missing or unexpected: "3" and 0 more'):
        build_dataset(config(tmp_path, "ImageNetV2"))


def test_a_variant_without_classnames_says_that_it_needs_a_copy(tmp_path: Path) -> None:
    make_files(tmp_path / "imagenet-rendition" / "imagenet-r", {"n01": ["a.jpg"]})
    with pytest.raises(
        FileNotFoundError,
        match=r"imagenet-rendition/classnames.txt\" is missing .*copy.*prepare ImageNet ",
    ):
        build_dataset(config(tmp_path, "ImageNetR"))


@pytest.mark.parametrize("name", ["ImageNetV2", *VARIANTS])
def test_variants_use_imagenets_template_and_descriptions(tmp_path: Path, name: str) -> None:
    assert DATASETS[name] == DATASETS["ImageNet"]
    assert class_texts(config(tmp_path, name)).descriptions == tmp_path / "descriptions" / "imagenet.json"


def aircraft(root: Path) -> Path:
    folder = root / "fgvc_aircraft"
    (folder / "images").mkdir(parents=True)
    (folder / "variants.txt").write_text("F-16A/B\n707-320\nSR-20\nBAE 146-200\n")
    lines = ["034309 BAE 146-200", "025794 707-320", "000001 F-16A/B", "000002 SR-20"]
    for number, part in enumerate(("train", "val", "test")):
        text = "".join(f"{number}{line}\n" for line in lines[number:] + lines[:number])
        (folder / f"images_variant_{part}.txt").write_text(text)
    return folder


def test_aircraft_come_from_the_official_lists_in_their_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = aircraft(tmp_path)
    with caplog.at_level(logging.WARNING):
        dataset = build_dataset(config(tmp_path, "FGVCAircraft", shots=-1))
        new = build_dataset(config(tmp_path, "FGVCAircraft", shots=1, subsample="new"))
    assert dataset.classnames == ["F-16A/B", "707-320", "SR-20", "BAE 146-200"]
    assert dataset.train_x[0].impath == str(folder / "images" / "0034309.jpg")
    assert [item.label for item in dataset.train_x] == [3, 1, 0, 2]
    assert [item.label for item in dataset.test] == [0, 2, 3, 1]
    assert new.classnames == ["SR-20", "BAE 146-200"]
    assert not caplog.text


def test_aircraft_lists_that_are_missing_or_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = aircraft(tmp_path)
    (folder / "images_variant_val.txt").write_text("0000003 Concorde\n")
    with pytest.raises(ValueError, match=r'images_variant_val.txt": variants.txt has no variant "Concorde"'):
        build_dataset(config(tmp_path, "FGVCAircraft"))
    (folder / "images_variant_val.txt").unlink()
    with pytest.raises(FileNotFoundError, match="images_variant_val.txt.* is missing"):
        build_dataset(config(tmp_path, "FGVCAircraft"))


def test_a_model_of_imagenet_is_evaluated_among_a_variants_own_classes(
    tmp_path: Path, toy_flags: list[str]
) -> None:
    wnids = ["n01", "n02", "n03", "n04"]
    names = {"n01": "great white shark", "n02": "hen", "n03": "sunglasses", "n04": "sunglasses"}
    folders = {
        "imagenet/images/train": wnids,
        "imagenet/images/val": wnids,
        "imagenet-adversarial/imagenet-a": ["n02", "n04"],
    }
    for folder, classes in folders.items():
        for number, wnid in enumerate(classes):
            for i in range(3):
                path = tmp_path / folder / wnid / f"{i}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 36), (60 * number, 80 * i, 99)).save(path)
        home = tmp_path / folder.split("/")[0]
        (home / "classnames.txt").write_text("".join(f"{wnid} {name}\n" for wnid, name in names.items()))
    (tmp_path / "descriptions").mkdir()
    described = {name: [f"a {name} has colours."] for name in names.values()}
    (tmp_path / "descriptions" / "imagenet.json").write_text(json.dumps(described))

    def command(name: str, *flags: str) -> list[str]:
        opts = [*toy_flags, "OPTIM.MAX_EPOCH", "1", "TRAINER.HeBA.ADAPTER_START", "3"]
        return train_words(tmp_path, tmp_path / "out" / name, *flags, *opts, config="x2d", dataset=name)

    assert train.main(command("imagenet")) == 0
    trained = ["--eval-only", "--model-dir", str(tmp_path / "out" / "imagenet"), "--load-epoch", "last"]
    assert train.main(command("imagenet_a", *trained)) == 0
    records = {
        name: json.loads((tmp_path / "out" / name / "results.json").read_text())
        for name in ("imagenet", "imagenet_a")
    }
    assert [(record["num_classes"], record["total"]) for record in records.values()] == [(4, 12), (2, 6)]
    assert records["imagenet_a"]["dataset"] == "ImageNetA"
