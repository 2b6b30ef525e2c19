"""Few-shot lists in a data set's folder: other repositories' pickles decide the shots, nothing is written."""

import pickle
import random
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
    folder.mkdir()
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
        folder = dataset.dataset_dir / "split_fewshot"
        folder.mkdir()
        (folder / "shot_2-seed_1.pkl").write_bytes(pickle.dumps(lists))
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


@pytest.mark.parametrize("content", ["[]", "{", '{"train": ["ant/image_0001.png"], "val": []}'])
def test_lists_that_an_earlier_version_left_are_ignored(root: Path, content: str) -> None:
    drawn = opened(root)
    stored(root, ".json").write_text(content)
    assert paths(opened(root).train_x) == paths(drawn.train_x)
    assert stored(root, ".json").read_text() == content


def test_a_stored_list_does_not_change_what_is_drawn_later(root: Path, datum: type) -> None:
    """The generator stands where it would without the file, so a trainer's own draws stay the same."""
    drawn = opened(root)
    first = random.random()
    stored(root, ".pkl").write_bytes(pickle.dumps({"train": elsewhere(root, drawn.train_x, datum)}))
    opened(root)
    assert random.random() == first


def test_a_run_without_a_seed_draws_other_shots_and_reads_no_list(root: Path) -> None:
    stored(root, ".pkl", f"shot_{SHOTS}-seed_-1").write_bytes(b"no pickle")
    assert len(opened(root, seed=-1).train_x) == SHOTS * 6
