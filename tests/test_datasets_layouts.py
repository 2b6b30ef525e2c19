"""Folders of pictures as archives have them: folders above the classes, parts of other names, no classes."""

import json
import logging
from pathlib import Path

import pytest

import predict
from datasets import storage
from tests.test_datasets_image_folder import (  # noqa: F401
    kept_split,
    names,
    opened,
    own_cache,
    paint,
    pictures,
)

CLASSES = {"ant": 4, "bee": 4, "cat": 4}


@pytest.mark.parametrize(
    ("layout", "train", "test"),
    [
        (["wrap/flowers"], "wrap/flowers", "wrap/flowers"),
        (["a/b/c"], "a/b/c", "a/b/c"),
        (["images/train"], "images/train", "images/train"),
        (["images/train", "images/val"], "images/train", "images/val"),
        (["wrap/train", "wrap/val", "wrap/test"], "wrap/train", "wrap/test"),
        (["seg_train/seg_train", "seg_test/seg_test"], "seg_train/seg_train", "seg_test/seg_test"),
        (["train/train", "test/test"], "train/train", "test/test"),
        (["train/images", "test/images"], "train/images", "test/images"),
        (["train_set", "test_set"], "train_set", "test_set"),
        (["Flowers/Train_Images", "Flowers/Valid_Images"], "Flowers/Train_Images", "Flowers/Valid_Images"),
        (["train", "test_set"], "train", "test_set"),
        (["training_set"], "training_set", "training_set"),
        (["training", "testing"], "training", "testing"),
        (["Train", "Test"], "Train", "Test"),
        (["train", "valid"], "train", "valid"),
        (["train", "validation"], "train", "validation"),
        (["train"], "train", "train"),
    ],
)
def test_folders_above_the_classes_are_understood(
    tmp_path: Path, layout: list[str], train: str, test: str, caplog: pytest.LogCaptureFixture
) -> None:
    for place in layout:
        pictures(tmp_path / place, CLASSES)
    (tmp_path / "__MACOSX" / layout[0]).mkdir(parents=True)
    for _ in range(2):  # drawn, then read
        with caplog.at_level(logging.INFO):
            dataset = opened(tmp_path)
        assert dataset.classnames == list(CLASSES)
        assert all(path.startswith(f"{train}/") for path in names(tmp_path, dataset.train_x))
        assert all(path.startswith(f"{test}/") for path in names(tmp_path, dataset.test))
        assert "are not in the split" not in caplog.text


def test_what_was_taken_and_what_was_not_used_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for place in ("wrap/seg_train/seg_train", "wrap/seg_test/seg_test"):
        pictures(tmp_path / place, CLASSES)
    paint(tmp_path / "wrap" / "seg_pred" / "seg_pred" / "0.png")
    with caplog.at_level(logging.INFO):
        opened(tmp_path)
    assert f'The pictures are taken from "{tmp_path}/wrap"' in caplog.text
    assert f'"{tmp_path}/wrap/seg_train/seg_train" is taken for train' in caplog.text
    assert "folders beside seg_test, seg_train are not used: seg_pred" in caplog.text


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"only": {"cat": 4}}, 'pictures in one class folder alone, "cat", so every answer would be right'),
        ({"": {"cat": 4, "train": 0}}, 'one class folder alone, "cat"'),
        (
            {"flowers": {"": 1, "rose": 4, "lily": 4}},
            'folder alone, "flowers".* folders lily, rose are',
        ),
        ({"train": {"cat": 4}, "test": {"cat": 4}}, 'one class folder alone, "cat"'),
        ({"images": {"train": 4, "val": 4}}, "pictures in train, val, which look like parts"),
        ({"": {"Train_Images": 4, "Test_Images": 4}}, "Test_Images, Train_Images, which look like parts"),
        ({"colour": CLASSES, "grey": CLASSES}, "each of colour, grey holds the folders ant, bee, cat"),
        (
            {"train_1": CLASSES, "train_2": CLASSES},
            "each of train_1, train_2 holds the folders ant, bee",
        ),
        (
            {"seg_train": {"ant": 4, "bee": 4}, "seg_test": {"ant": 4, "bee": 4, "cat": 4}},
            "each of seg_test, seg_train holds the folders ant, bee",
        ),
    ],
)
def test_folders_that_are_not_classes_are_refused_and_nothing_is_stored(
    tmp_path: Path, layout: dict[str, dict[str, int]], message: str
) -> None:
    for place, numbers in layout.items():
        pictures(tmp_path / place, numbers)
    with pytest.raises(ValueError, match=message) as error:
        opened(tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "split_image_folder.json").exists()


def test_a_file_of_class_names_says_that_folders_are_classes(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        pictures(tmp_path / name, {"front": 3, "back": 3})
    with pytest.raises(ValueError, match="each of ant, bee holds the folders back, front.* classnames.txt"):
        opened(tmp_path)
    (tmp_path / "classnames.txt").write_text("ant ant\nbee bee\n")
    assert opened(tmp_path).classnames == ["ant", "bee"]


def test_groups_of_folders_taken_for_one_class_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures(tmp_path / "flowers", CLASSES)
    pictures(tmp_path, {"docs": 4})
    with caplog.at_level(logging.WARNING):
        assert opened(tmp_path).classnames == ["docs", "flowers"]
    assert '/flowers" is taken for a class, its folders ant, bee, cat are not' in caplog.text


def earlier_split(root: Path, folders: list[str]) -> None:
    """What earlier versions drew: every folder of the root is a class."""
    split: dict = {"train": [], "val": [], "test": [], "skipped": {}}
    for label, folder in enumerate(folders):
        paths = sorted(path.relative_to(root).as_posix() for path in (root / folder).rglob("*.png"))
        for number, path in enumerate(paths):
            split[("train", "val", "test")[number % 3]].append([path, label, folder])
    assert storage.keep(split, root, "split_image_folder.json")


def test_a_split_of_an_earlier_version_with_other_classes_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path / "one" / "flowers", CLASSES)
    earlier_split(tmp_path / "one", ["flowers"])
    with pytest.raises(ValueError, match='all images are of one class, "flowers".*or delete ".*.json"'):
        opened(tmp_path / "one")
    for part in ("seg_train", "seg_test"):
        pictures(tmp_path / "two" / part / part, CLASSES)
    earlier_split(tmp_path / "two", ["seg_test", "seg_train"])
    with pytest.raises(ValueError, match="as if seg_test, seg_train were the classes, but these are ant"):
        opened(tmp_path / "two")


def test_a_split_of_ones_own_may_group_folders_as_it_likes(tmp_path: Path) -> None:
    for part in ("seg_train", "seg_test"):
        pictures(tmp_path / part / part, CLASSES)
    earlier_split(tmp_path, ["seg_test", "seg_train"])
    split = json.loads(kept_split(tmp_path).read_text())
    del split["skipped"]
    (tmp_path / "split_image_folder.json").write_text(json.dumps(split))
    assert opened(tmp_path).classnames == ["seg_test", "seg_train"]


def test_predict_takes_pictures_of_a_folder_at_any_depth(tmp_path: Path) -> None:
    pictures(tmp_path / "wrap" / "flowers", CLASSES)
    assert len(predict.find_pictures([str(tmp_path)])) == 12
