"""Stored few-shot lists: other repositories' pickles are honoured; ours are JSON and checked."""

import json
import os
import pickle
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dassl.data.datasets import DatasetBase, build_dataset
from tests.test_datasets import config, coop_root, imagenet

SHOTS, SEED = 4, 1
NAME = f"shot_{SHOTS}-seed_{SEED}"


class PickledDatum:
    """What CoOp pickles: Dassl's class by its published address, with its private attributes."""

    def __init__(self, impath: str, label: int, classname: str) -> None:
        self._impath = impath
        self._label = label
        self._domain = 0
        self._classname = classname


@pytest.fixture
def datum(monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """The class under the name ``elsewhere.Datum``, importable while a test pickles it."""
    module = types.ModuleType("elsewhere")
    kind = type("Datum", (PickledDatum,), {"__module__": "elsewhere", "__qualname__": "Datum"})
    module.Datum = kind
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    return kind


@pytest.fixture
def root(toy_data: Path, tmp_path: Path) -> Path:
    """A copy of the toy data without any stored list."""
    ignored = shutil.ignore_patterns("split_fewshot")
    return Path(shutil.copytree(toy_data, tmp_path / "data", ignore=ignored))


def opened(root: Path, name: str = "Caltech101", seed: int = SEED, **settings: Any) -> DatasetBase:
    return build_dataset(config(root, name, SHOTS, seed, **settings))


def stored(root: Path, suffix: str, name: str = NAME) -> Path:
    folder = root / "caltech-101" / "split_fewshot"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}{suffix}"


def paths(items: list) -> list[str]:
    return [item.impath for item in items]


def elsewhere(root: Path, items: list, kind: type, windows: bool = False) -> list[Any]:
    """The items as another machine has them."""
    there = "D:\\data" if windows else "/home/somebody/data"
    moved = [item.impath.replace(str(root), there) for item in items]
    moved = [path.replace("/", "\\") for path in moved] if windows else moved
    return [kind(path, item.label, item.classname) for path, item in zip(moved, items, strict=True)]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("windows", [False, True])
def test_a_pickle_of_another_machine_decides_the_shots(
    root: Path, datum: type, caplog: pytest.LogCaptureFixture, protocol: int, windows: bool
) -> None:
    """Here that of a seed that draws other images, as forks do that draw val before train."""
    caplog.set_level("INFO")
    ours, other = opened(root), opened(root, seed=2)
    lists = {
        "train": elsewhere(root, other.train_x, datum, windows),
        "val": elsewhere(root, other.val, datum, windows),
    }
    stored(root, ".pkl").write_bytes(pickle.dumps(lists, protocol=protocol))
    caplog.clear()
    dataset = opened(root)
    assert paths(dataset.train_x) == paths(other.train_x) != paths(ours.train_x)
    assert paths(dataset.val) == paths(other.val)
    assert [item.classname for item in dataset.train_x] == [item.classname for item in other.train_x]
    lines = [line for line in caplog.messages if f"{NAME}.pkl is used" in line]
    assert len(lines) == 1
    assert "not what CoOp draws for this seed" in lines[0]
    half = opened(root, subsample="base")
    assert paths(half.train_x) == paths(other.train_x)[: len(half.train_x)]


def test_a_pickle_of_coops_own_draw_is_recognised(
    root: Path, datum: type, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    drawn = opened(root)
    train = elsewhere(root, drawn.train_x, datum)
    for lists, said in (
        (
            {"train": train, "val": elsewhere(root, drawn.val, datum)},
            "the images that CoOp draws for this seed",
        ),
        ({"train": train[::-1]}, "the images that CoOp draws for this seed, in another order"),
    ):
        stored(root, ".pkl").write_bytes(pickle.dumps(lists))
        dataset = opened(root)
        assert caplog.messages[-1].endswith(f"{NAME}.pkl is used: {said}")
        assert paths(dataset.val) == paths(drawn.val)


def test_imagenets_pickle_without_val_is_honoured(tmp_path: Path, datum: type) -> None:
    root = imagenet(tmp_path)
    other = build_dataset(config(root, "ImageNet", 5, 2))
    folder = root / "imagenet" / "split_fewshot"
    lists = {"train": elsewhere(root, other.train_x, datum)}
    (folder / "shot_5-seed_1.pkl").write_bytes(pickle.dumps(lists))
    dataset = build_dataset(config(root, "ImageNet", 5, 1))
    assert paths(dataset.train_x) == paths(other.train_x)
    assert len(dataset.val) == 6


def test_every_official_split_finds_its_images_again(assets: Path, tmp_path: Path, datum: type) -> None:
    """Also where paths are nested or start at the data set's folder (Stanford Cars)."""
    for name in ("StanfordCars", "UCF101", "OxfordFlowers"):
        root = coop_root(tmp_path / name, assets, name)
        dataset = build_dataset(config(root, name, 2, 3))
        lists = {"train": elsewhere(root, dataset.train_x, datum), "val": elsewhere(root, dataset.val, datum)}
        (dataset.dataset_dir / "split_fewshot" / "shot_2-seed_1.pkl").write_bytes(pickle.dumps(lists))
        again = build_dataset(config(root, name, 2, 1))
        assert paths(again.train_x) == paths(dataset.train_x)
        assert paths(again.val) == paths(dataset.val)


def relabelled(images: list[Any]) -> None:
    images[0]._label += 1


def renamed(images: list[Any]) -> None:
    images[0]._classname = "wasp"


def unknown(images: list[Any]) -> None:
    images[0]._impath = "/home/somebody/data/caltech-101/101_ObjectCategories/ant/image_9999.png"


def shortened(images: list[Any]) -> None:
    del images[0]


def doubled(images: list[Any]) -> None:
    images[0] = images[1]


def lengthened(images: list[Any]) -> None:
    images[0]._impath = "a/" * 3000 + images[0]._impath


def buried(images: list[Any]) -> None:
    images[0]._impath = "x" * 4000


def worded(images: list[Any]) -> None:
    images[0]._label = "0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (relabelled, r'"\S+" is "ant" \(label 1\) in it, but "ant" \(label 0\) in the split at hand'),
        (renamed, '"wasp"'),
        (unknown, 'image_9999.png" is not a train image of the split'),
        (shortened, "3 train images of label 0, not 4"),
        (doubled, 'it lists "[^"]+image_[0-9]+.png" more than once'),
        (lengthened, '"….{200}" is a path of [0-9,]+ characters'),
        (buried, '"…x{200}" is not a train image of the split'),
        (worded, "not a pickle of image lists alone"),
    ],
)
def test_a_pickle_that_contradicts_the_split_is_an_error(
    root: Path, datum: type, change: Callable[[list[Any]], None], said: str
) -> None:
    images = elsewhere(root, opened(root).train_x, datum)
    change(images)
    stored(root, ".pkl").write_bytes(pickle.dumps({"train": images}))
    with pytest.raises(ValueError, match=rf"{NAME}.pkl.*{said}.*; move it away") as refused:
        opened(root)
    assert "\n" not in str(refused.value)


def test_validation_lists_hold_no_more_than_coops(root: Path, datum: type) -> None:
    drawn = opened(root)
    lists = {"train": elsewhere(root, drawn.train_x, datum), "val": elsewhere(root, drawn.val, datum)}
    stored(root, ".pkl").write_bytes(pickle.dumps(lists | {"val": lists["val"][1:]}))
    assert paths(opened(root).val) == paths(drawn.val)[1:]
    one_shot = stored(root, ".pkl", f"shot_1-seed_{SEED}")
    lists["train"] = elsewhere(root, build_dataset(config(root, "Caltech101", 1, SEED)).train_x, datum)
    one_shot.write_bytes(pickle.dumps(lists))
    with pytest.raises(ValueError, match="it has 4 val images of label 0, not 1"):
        build_dataset(config(root, "Caltech101", 1, SEED))


def test_our_list_has_relative_paths_and_the_digest_of_its_split(root: Path) -> None:
    drawn = opened(root)
    content = json.loads(stored(root, ".json").read_text())
    images = root / "caltech-101" / "101_ObjectCategories"
    assert [str(images / file) for file in content["train"]] == paths(drawn.train_x)
    assert [str(images / file) for file in content["val"]] == paths(drawn.val)
    assert len(content["split_sha256"]) == 64
    moved = shutil.move(root, root.with_name("moved"))
    again = opened(moved)
    assert [path.replace(str(moved), str(root)) for path in paths(again.train_x)] == paths(drawn.train_x)
    assert [file.name for file in stored(moved, "").parent.iterdir()] == [f"{NAME}.json"]


def test_our_list_is_used_until_the_split_changes(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    opened(root)
    file = stored(root, ".json")
    content = json.loads(file.read_text())
    split_file = root / "caltech-101" / "split_zhou_Caltech101.json"
    split = json.loads(split_file.read_text())
    split["train"].reverse()
    split_file.write_text(json.dumps(split))
    opened(root)
    assert len([line for line in caplog.messages if "drawn from another split; drawn anew" in line]) == 1
    assert json.loads(file.read_text())["split_sha256"] != content["split_sha256"]
    split_file.write_text(json.dumps(split, indent=4))  # the same split, written otherwise
    caplog.clear()
    opened(root)
    assert "the images that CoOp draws for this seed" in caplog.messages[-1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: "{",
        lambda content: "[]",
        lambda content: json.dumps(content | {"train": 5}),
        lambda content: json.dumps(content | {"train": content["train"][1:]}),
        lambda content: json.dumps(content | {"train": ["../../etc/passwd", *content["train"][1:]]}),
        lambda content: json.dumps(content | {"train": ["\ud800", *content["train"][1:]]}),
        lambda content: json.dumps(content | {"train": content["train"][::-1]}),
        lambda content: json.dumps(content | {"train": [content["train"][1], *content["train"][1:]]}),
        lambda content: json.dumps(content | {"val": content["val"][1:]}),
        lambda content: json.dumps({**content, "split_sha256": None}),
        lambda content: "[" * 200_000,
    ],
)
def test_a_damaged_list_of_ours_is_drawn_anew(
    root: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[dict], str]
) -> None:
    drawn, file = opened(root), stored(root, ".json")
    whole = file.read_text()
    file.write_text(damage(json.loads(whole)))
    assert paths(opened(root).train_x) == paths(drawn.train_x)
    assert len([line for line in caplog.messages if "is not used" in line]) == 1
    assert file.read_text() == whole


def test_a_pickle_comes_before_our_list(root: Path, datum: type) -> None:
    opened(root)
    other = opened(root, seed=2)
    stored(root, ".pkl").write_bytes(pickle.dumps({"train": elsewhere(root, other.train_x, datum)}))
    ours = stored(root, ".json").read_text()
    assert paths(opened(root).train_x) == paths(other.train_x)
    assert stored(root, ".json").read_text() == ours


def test_seed_0_has_a_list_and_no_seed_has_none(root: Path) -> None:
    opened(root, seed=0)
    opened(root, seed=-1)
    assert [file.name for file in stored(root, "").parent.iterdir()] == [f"shot_{SHOTS}-seed_0.json"]


@pytest.mark.parametrize("folder", ["caltech-101", "caltech-101/split_fewshot"])
def test_a_folder_marked_read_only_stays_as_it_is(root: Path, folder: str) -> None:
    """Also for root, whom the file system lets write."""
    stored(root, "")
    if folder == "caltech-101":
        stored(root, "").parent.rmdir()
    (root / folder).chmod(0o555)
    before = sorted(root.rglob("*"))
    try:
        dataset = opened(root)
    finally:
        (root / folder).chmod(0o755)
    assert len(dataset.train_x) == SHOTS * 6
    assert sorted(root.rglob("*")) == before


def test_a_failing_write_leaves_nothing_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, target: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    assert len(opened(root).train_x) == SHOTS * 6
    assert not list(stored(root, "").parent.iterdir())


def test_a_stored_list_does_not_change_what_is_drawn_later(root: Path) -> None:
    """The generator stands where it would without the file, so a trainer's own draws stay the same."""
    import random

    opened(root)
    first = random.random()
    assert stored(root, ".json").is_file()
    opened(root)
    assert random.random() == first
