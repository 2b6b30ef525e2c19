"""Labels, classes, paths and entries of split files: what is refused by name, warned of, or taken."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import command_line
import train
from dassl.data import DataManager
from dassl.data.datasets import build_dataset
from datasets.preparation.check import split_problem
from datasets.preparation.sources import find_source, load_sources
from datasets.splits import check_split
from fileio.pictures import depth_fault
from tests.conftest import train_words
from tests.test_datasets import SPLITS, config

NAMES = ["ant", "bee", "cat", "dog"]
FILE = "split_zhou_EuroSAT.json"

Split = dict[str, list]


def tidy() -> Split:
    """Four classes, with three pictures each to train on, two for validation and two to test."""
    numbers = {"train": 3, "val": 2, "test": 2}
    return {
        part: [
            [f"{name}/{part}_{i}.png", label, name] for label, name in enumerate(NAMES) for i in range(number)
        ]
        for part, number in numbers.items()
    }


def eurosat(root: Path, split: Split | str, *, paint: bool = False) -> Path:
    folder = root / "eurosat"
    (folder / "2750").mkdir(parents=True)
    (folder / FILE).write_text(split if isinstance(split, str) else json.dumps(split))
    for path, label, _ in (entry for part in split.values() for entry in part) if paint else ():
        (folder / "2750" / path).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 36), (60 * int(label), 90, 200)).save(folder / "2750" / path)
    return root


def relabelled(change: Callable[[int], int]) -> Split:
    return {
        part: [[path, change(label), name] for path, label, name in items] for part, items in tidy().items()
    }


def with_entry(entry: object, part: str = "train") -> Split:
    split = tidy()
    split[part][1] = entry
    return split


def text(label: str) -> str:
    """A split file with a label that Python's json module does not write."""
    return json.dumps(with_entry(["ant/1.png", "LABEL", "ant"])).replace('"LABEL"', label)


WRONG = {
    "from 1": (relabelled(lambda label: label + 1), r'train\[9\] has label 4 \(class "dog"\) .* has label 0'),
    "gap": (relabelled(lambda label: label * 2), r'train\[6\] has label 4 \(class "cat"\) .* has label 1'),
    "two names": (
        relabelled(lambda label: min(label, 2)),
        r'label 2 is class "cat" in train\[6\] and class "dog"',
    ),
    "new label": (
        with_entry(["ant/1.png", 4, "ant"], "val"),
        r'"ant" has label 0 in train\[0\] and label 4 in val',
    ),
    "infinite": (text("1e400"), r"train\[1\] is .*inf.*its label is not a whole number"),
    "not a number": (text("NaN"), r"train\[1\] .*its label is not a whole number"),
    "true": (text("true"), r"train\[1\] .*its label is not a whole number"),
    "text": (text('"1"'), r"train\[1\] .*its label is not a whole number"),
    "null": (text("null"), r"train\[1\] .*its label is not a whole number"),
    "negative": (text("-1"), r"train\[1\] .*its label is not a whole number of 0 or more"),
    "half": (text("1.5"), r"train\[1\] .*its label is not a whole number"),
    "thousands of digits": (text("9" * 4000), r'"ant" has label 0 in train\[0\] and label 9+\.\.\.9+ in'),
    "more digits than Python reads": (text("9" * 5000), "is not a split file"),
    "two elements": (
        with_entry(["ant/1.png", 0]),
        r"train\[1\] is .*an entry is \[path, label, class name\]",
    ),
    "no list": (with_entry("ant/1.png"), r"train\[1\] is 'ant/1.png': an entry is"),
    "path of a number": (with_entry([7, 0, "ant"]), r"train\[1\] .*its path is not a text"),
    "no path": (with_entry([" ", 0, "ant"]), r"train\[1\] .*its path is not a text"),
    "zero byte": (with_entry(["a\0.png", 0, "ant"]), r"train\[1\] .*its path is not a text"),
    "half a surrogate": (with_entry(["a\ud800.png", 0, "ant"]), r"train\[1\] .*its path is not a text"),
    "no name": (with_entry(["ant/1.png", 0, ""]), r"train\[1\] .*its class name is not a text"),
    "name of a number": (with_entry(["ant/1.png", 0, 5]), r"train\[1\] .*its class name is not a text"),
    "absolute": (with_entry(["/etc/x.png", 0, "ant"]), r"train\[1\] .*absolute or leads through \.\."),
    "upwards": (with_entry(["ant/../../x.png", 0, "ant"]), r"train\[1\] .*absolute or leads through \.\."),
    "Windows": (with_entry(["C:\\data\\x.png", 0, "ant"]), r"train\[1\] .*absolute or leads through \.\."),
    "Windows upwards": (with_entry(["ant\\..\\x.png", 0, "ant"]), r"train\[1\] .*absolute or leads through"),
    "Windows share": (with_entry(["\\\\server\\x.png", 0, "ant"]), r"train\[1\] .*absolute or leads through"),
    "name of zero width": (
        with_entry(["ant/1.png", 0, "\u200b\ufeff"]),
        r"train\[1\] .*its class name is not a text",
    ),
    "key twice": (
        json.dumps(tidy())[:-1] + ', "test": []}',
        'is not a split file \\("test" stands there twice',
    ),
    "path twice in a part": (
        with_entry(["./cat/val_1.png", 2, "cat"], "val"),
        r'val\[5\] is "cat/val_1.png", which val\[1\] is too; an image counts once',
    ),
    "two labels of a path": (
        with_entry(["bee/train_0.png", 0, "ant"]),
        r'train\[3\] gives "bee/train_0.png" label 1, an entry before it label 0; an image has one label',
    ),
    "two labels of a path written in two ways": (
        with_entry(["./bee/train_0.png", 0, "ant"]),
        r'train\[3\] gives "bee/train_0.png" label 1, an entry before it label 0; an image has one label',
    ),
    "one class": ({part: items[:2] for part, items in tidy().items()}, 'all images are of one class, "ant"'),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_split_may_not_hold_is_refused_by_file_and_entry(tmp_path: Path, case: str) -> None:
    split, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as error:
        build_dataset(config(eurosat(tmp_path, split), "EuroSAT", shots=-1))
    assert str(error.value).startswith(f'"{tmp_path}/eurosat/{FILE}"')
    assert len(str(error.value)) < 800


def test_whole_numbers_written_as_floats_are_labels(tmp_path: Path) -> None:
    dataset = build_dataset(config(eurosat(tmp_path, relabelled(float)), "EuroSAT", shots=-1))
    assert [item.label for item in dataset.train_x] == [label for _, label, _ in tidy()["train"]]
    assert all(type(item.label) is int for item in dataset.test)


def test_official_splits_pass_without_a_word(assets: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in SPLITS.values():
        path = assets / "real" / "splits" / f"split_zhou_{name}.json"
        check_split(json.loads(path.read_text()), str(path))
    assert not caplog.text


def test_preparation_refuses_what_a_run_refuses(tmp_path: Path) -> None:
    source = find_source("eurosat", load_sources())
    for split in (relabelled(lambda label: label + 1), "[" * 100_000, WRONG["key twice"][0]):
        path = eurosat(tmp_path / str(len(split)), split) / "eurosat" / FILE
        assert split_problem(source, path).startswith(FILE)


def test_test_images_among_the_training_images_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    split = with_entry(["bee/train_0.png", 1, "bee"], "test")
    split["test"][0] = ["ant/train_0.png", 0, "ant"]
    with caplog.at_level(logging.WARNING):
        build_dataset(config(eurosat(tmp_path, split), "EuroSAT", shots=-1))
    assert '2 of 8 test images are training images too, e.g. "ant/train_0.png"' in caplog.text


def test_raw_annotations_are_held_to_the_same_and_nothing_is_stored(tmp_path: Path) -> None:
    folder = tmp_path / "fgvc_aircraft"
    (folder / "images").mkdir(parents=True)
    (folder / "variants.txt").write_text("707-320\nSR-20\nDR-400\n")
    for part in ("train", "val", "test"):
        (folder / f"images_variant_{part}.txt").write_text("../../secret 707-320\n1 SR-20\n2 DR-400\n")
    with pytest.raises(ValueError, match=r"the lists of .*fgvc_aircraft.*train\[0\] .* leads through \.\."):
        build_dataset(config(tmp_path, "FGVCAircraft", shots=-1))
    for part in ("train", "val", "test"):
        (folder / f"images_variant_{part}.txt").write_text("0 707-320\n2 DR-400\n")
    with pytest.raises(
        ValueError, match=r'train\[1\] has label 2 \(class "DR-400"\) and nothing has label 1'
    ):
        build_dataset(config(tmp_path, "FGVCAircraft", shots=-1))
    (tmp_path / "eurosat" / "2750" / "River").mkdir(parents=True)
    for number in range(6):
        (tmp_path / "eurosat" / "2750" / "River" / f"{number}.jpg").touch()
    with pytest.raises(
        ValueError, match='raw annotations of .*eurosat.* all images are of one class, "River"'
    ):
        build_dataset(config(tmp_path, "EuroSAT", shots=-1))
    assert not (tmp_path / "eurosat" / FILE).exists()


def test_symbolic_links_lead_where_they_will(tmp_path: Path) -> None:
    root = eurosat(tmp_path, tidy(), paint=True)
    moved = tmp_path / "elsewhere"
    (root / "eurosat" / "2750" / "ant").rename(moved)
    (root / "eurosat" / "2750" / "ant").symlink_to(moved)
    cfg = config(root, "EuroSAT", shots=-1)
    cfg.DATALOADER.NUM_WORKERS, cfg.INPUT.SIZE = 0, (8, 8)
    assert DataManager(cfg).test_loader.dataset[0]["img"].shape == (3, 8, 8)


def untrained(label: int) -> Split:
    split = tidy()
    return {**split, "train": [entry for entry in split["train"] if entry[1] != label]}


@pytest.mark.parametrize("label", [1, 3])
def test_classes_are_those_of_all_parts(tmp_path: Path, label: int) -> None:
    """Also where one has no training pictures: names and labels stay together, halves stay the same."""
    root = eurosat(tmp_path, untrained(label))
    dataset = build_dataset(config(root, "EuroSAT", shots=-1))
    assert (dataset.num_classes, dataset.classnames) == (4, NAMES)
    assert dataset.lab2cname == dict(enumerate(NAMES))
    for part, names in (("base", NAMES[:2]), ("new", NAMES[2:])):
        half = build_dataset(config(root, "EuroSAT", shots=-1, subsample=part))
        assert half.classnames == names
        assert {item.classname for item in half.test} == set(names)


def command(root: Path, output: Path, trainer: str, backbone: Path, *opts: str) -> list[str]:
    config = "base2new" if trainer == "CoOp" else "vit_b16"
    return [
        *train_words(root, output, trainer=trainer, config=config, dataset="eurosat"),
        *("MODEL.BACKBONE.NAME", str(backbone), "MODEL.BACKBONE.QUICK_GELU", "True"),
        *(f"TRAINER.{trainer}.PREC" if trainer == "ZeroshotCLIP" else "TRAINER.COOP.PREC", "fp32"),
        *("DATALOADER.NUM_WORKERS", "0", *opts),
    ]


def test_a_class_without_training_pictures_can_be_evaluated_but_not_trained(
    tmp_path: Path, tiny_clip_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for name, split in (("tidy", tidy()), ("untrained", untrained(1))):
        root = eurosat(tmp_path / name, tidy(), paint=True)
        (root / "eurosat" / FILE).write_text(json.dumps(split))
        output = tmp_path / f"{name}_out"
        flags = ["DATASET.TEMPLATE", "{}"]
        assert train.main(command(root, output, "ZeroshotCLIP", tiny_clip_path, *flags)) == 0
        record = json.loads((output / "results.json").read_text())
        found.append([record[key] for key in ("num_classes", "total", "correct", "macro_f1")])
    assert found[0] == found[1]
    capsys.readouterr()
    assert train.main(command(root, tmp_path / "out", "CoOp", tiny_clip_path, "OPTIM.MAX_EPOCH", "1")) == 2
    said = capsys.readouterr().err
    assert 'class "bee" (label 1) has val images' in said
    assert "but none to train on" in said


def test_more_shots_than_a_class_has_are_said_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    split = tidy()
    del split["train"][0]
    root = eurosat(tmp_path, split)
    for shots, said in ((2, 0), (3, 1), (1000, 1)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            dataset = build_dataset(config(root, "EuroSAT", shots=shots))
        assert len(caplog.records) == said
    assert len(dataset.train_x) == 11
    assert 'NUM_SHOTS is 1000, but 4 of 4 classes have fewer training images, "ant" only 2' in caplog.text


def test_a_half_of_one_class_is_refused(tmp_path: Path) -> None:
    root = eurosat(tmp_path, {part: [e for e in items if e[1] < 3] for part, items in tidy().items()})
    assert build_dataset(config(root, "EuroSAT", subsample="base")).num_classes == 2
    with pytest.raises(ValueError, match="SUBSAMPLE_CLASSES new leaves 1 of 3 classes"):
        build_dataset(config(root, "EuroSAT", subsample="new"))


def test_deep_grey_pictures_of_a_split_file_are_refused_when_they_are_read(tmp_path: Path) -> None:
    root = eurosat(tmp_path, tidy(), paint=True)
    deep = root / "eurosat" / "2750" / "cat" / "test_1.png"
    Image.new("I;16", (40, 36), 40_000).save(deep)
    cfg = config(root, "EuroSAT", shots=-1)
    for workers in (0, 1):
        cfg.DATALOADER.NUM_WORKERS, cfg.INPUT.SIZE = workers, (8, 8)
        with pytest.raises(OSError, match="to 40000 do not fit 0 to 255; save it with 8 bits") as error:
            list(DataManager(cfg).test_loader)
        assert str(deep) in command_line.one_line(error.value)
    Image.new("I;16", (40, 36), 200).save(deep)
    assert torch.isfinite(DataManager(cfg).test_loader.dataset[5]["img"]).all()


@pytest.mark.parametrize(
    ("mode", "values", "said"),
    [
        ("F", [[-500.0, 200.0]], "grey values from -500 to 200 do not fit 0 to 255"),
        ("F", [[float("nan"), 20.0]], "do not fit 0 to 255"),
        ("F", [[0.0, 1.0]], "grey values from 0 to 1 would all become black"),
        ("F", [[0.0, 200.0]], ""),
        ("L", [[0, 255]], ""),
    ],
)
def test_values_that_do_not_fit_8_bits_are_found(mode: str, values: list, said: str) -> None:
    kind = np.float32 if mode == "F" else np.uint8
    fault = depth_fault(Image.fromarray(np.array(values, dtype=kind)))
    assert fault.startswith(said) if said.startswith("grey") else said in fault
    assert bool(fault) == bool(said)


def test_an_empty_class_folder_of_a_test_set_is_refused(tmp_path: Path) -> None:
    images = tmp_path / "imagenet-sketch" / "images"
    for wnid in ("n01", "n02", "n03"):
        (images / wnid).mkdir(parents=True)
        (images / wnid / "0.JPEG").touch()
    (tmp_path / "imagenet-sketch" / "classnames.txt").write_text("n01 sunglasses\nn02 hen\nn03 sunglasses\n")
    names = ["sunglasses", "hen", "sunglasses"]
    assert build_dataset(config(tmp_path, "ImageNetSketch")).classnames == names
    (images / "n02" / "0.JPEG").unlink()
    with pytest.raises(
        ValueError, match=r"imagenet-sketch/images.* has label 2 .* nothing has label 1; .*empty"
    ):
        build_dataset(config(tmp_path, "ImageNetSketch"))
