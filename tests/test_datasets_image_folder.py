"""A folder of own pictures as a data set: layouts, split, class names, bad and unusual pictures, a run."""

import json
import logging
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.datasets.folder import default_loader

import train
from dassl.data import DataManager
from dassl.data.datasets import build_dataset
from dassl.utils import read_image
from datasets import storage
from datasets.pictures import fault
from tests.conftest import ROOT, train_words
from tests.test_datasets import config

YAML = str(ROOT / "configs" / "datasets" / "image_folder.yaml")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


def paint(path: Path, colour: tuple[int, ...] = (200, 30, 30), mode: str = "RGB", **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (40, 30), colour if mode == "RGB" else None).save(path, **options)
    return path


def pictures(root: Path, numbers: dict[str, int]) -> Path:
    """A folder of class folders with so many pictures each."""
    for label, (name, number) in enumerate(numbers.items()):
        for i in range(number):
            paint(root / name / f"{i:02d}.png", (60 * label % 256, 10 * i % 256, 90))
    return root


def opened(root: Path, shots: int = -1, subsample: str = "all", bad: str = "refuse"):  # noqa: ANN201
    cfg = config(root, "ImageFolder", shots=shots, subsample=subsample)
    cfg.DATASET.BAD_IMAGES = bad
    return build_dataset(cfg)


def kept_split(root: Path) -> Path:
    """The split that a run drew and kept, which lies outside of the folder of pictures."""
    path = storage.find(root, "split_image_folder.json")
    assert root not in path.parents
    return path


def names(root: Path, items: list) -> list[str]:
    return [Path(item.impath).relative_to(root).as_posix() for item in items]


def test_each_class_is_split_once_into_half_a_fifth_and_the_rest(tmp_path: Path) -> None:
    root = pictures(tmp_path / "pets", {"dog": 20, "cat": 3, "Emu": 2})
    dataset = opened(root)
    assert dataset.classnames == ["Emu", "cat", "dog"]
    parts = [dataset.train_x, dataset.val, dataset.test]
    counts = [[sum(item.label == label for item in part) for part in parts] for label in range(3)]
    assert counts == [[1, 0, 1], [1, 1, 1], [10, 4, 6]]
    found = [names(root, part) for part in parts]
    assert sorted(sum(found, [])) == sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    stored = json.loads(kept_split(root).read_text())
    assert [[item[0] for item in stored[part]] for part in ("train", "val", "test")] == found
    for seed in (1, 2):
        cfg = config(root, "ImageFolder", shots=4, seed=seed)
        assert names(root, build_dataset(cfg).test) == found[2]


def test_the_draw_does_not_depend_on_the_seed_or_the_place(tmp_path: Path) -> None:
    roots = [pictures(tmp_path / place, {"a": 9, "b": 7}) for place in ("one", "two")]
    drawn = [
        names(root, build_dataset(config(root, "ImageFolder", shots=-1, seed=seed)).test)
        for seed, root in enumerate(roots)
    ]
    assert drawn[0] == drawn[1]


def test_given_parts_are_kept_and_only_what_is_missing_is_drawn(tmp_path: Path) -> None:
    for number, parts in enumerate((["train", "val", "test"], ["train", "test"], ["train", "val"])):
        root = tmp_path / str(number)
        for part in parts:
            pictures(root / part, {"a": 10, "b": 5})
        dataset = opened(root)
        folders = {
            name: {Path(path).parts[0] for path in names(root, getattr(dataset, name))}
            for name in ("train_x", "val", "test")
        }
        assert folders["train_x"] == {"train"}
        assert folders["val"] == ({"val"} if number == 0 else {"train"})
        assert folders["test"] == ({"test"} if number < 2 else {"val"})
        assert len(dataset.test) == 15
        assert len(dataset.train_x) == (15 if number == 0 else 12)


def test_a_valid_folder_beside_train_and_test_is_used_and_other_folders_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in ("train", "valid", "test", "extra"):
        pictures(tmp_path / part, {"cat": 6, "dog": 6})
    with caplog.at_level(logging.WARNING):
        dataset = opened(tmp_path)
    assert {Path(path).parts[0] for path in names(tmp_path, dataset.val)} == {"valid"}
    assert [len(part) for part in (dataset.train_x, dataset.val, dataset.test)] == [12, 12, 12]
    assert "not used: extra" in caplog.text


def test_a_train_among_other_classes_is_a_class_and_said_to_be_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures(tmp_path / "train", {"steam": 4, "diesel": 4})
    pictures(tmp_path, {"car": 4})
    with caplog.at_level(logging.WARNING):
        assert opened(tmp_path).classnames == ["car", "train"]
    assert '/train" is taken for a class' in caplog.text


def test_parts_without_train_and_parts_given_twice_are_refused(tmp_path: Path) -> None:
    for part in ("val", "test"):
        pictures(tmp_path / part, {"cat": 2, "dog": 2})
    with pytest.raises(ValueError, match="there is no train/<class> beside them"):
        opened(tmp_path)
    pictures(tmp_path / "train", {"cat": 2, "dog": 2})
    pictures(tmp_path / "valid", {"cat": 2, "dog": 2})
    with pytest.raises(ValueError, match='has "val" and "valid", both val; keep one'):
        opened(tmp_path)
    assert not (tmp_path / "split_image_folder.json").exists()


@pytest.mark.parametrize("flat", [True, False])
def test_a_test_folder_without_labels_is_drawn_from_train(
    tmp_path: Path, flat: bool, caplog: pytest.LogCaptureFixture
) -> None:
    pictures(tmp_path / "train", {"cat": 10, "dog": 10})
    (tmp_path / "test").mkdir()
    if flat:
        paint(tmp_path / "test" / "0.png")
    with caplog.at_level(logging.WARNING):
        dataset = opened(tmp_path)
    assert [len(part) for part in (dataset.train_x, dataset.val, dataset.test)] == [10, 4, 6]
    assert '/test" has no pictures in class folders and is not used as test' in caplog.text
    assert "The test pictures are drawn from those of train" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert len(opened(tmp_path).test) == 6
    assert not caplog.text


def test_a_file_name_that_is_no_utf8_is_a_bad_picture(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = pictures(tmp_path / "mine", {"a": 4, "b": 4})
    try:
        os.rename(os.fsencode(root / "a" / "00.png"), os.fsencode(root / "a") + b"/\xff.png")
    except OSError:
        pytest.skip("the file system takes no such names")
    with pytest.raises(ValueError, match=r"a/\\udcff.png\" \(its name is not UTF-8; rename it\)"):
        opened(root)
    with caplog.at_level(logging.WARNING):
        dataset = opened(root, bad="skip")
        opened(root)
    assert len(dataset.train_x) + len(dataset.val) + len(dataset.test) == 7
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert caplog.text.count("Skipped") == len(warnings) == 1
    caplog.text.encode("utf-8")


def test_a_stored_split_whose_picture_went_bad_is_named_when_bad_ones_are_to_be_skipped(
    tmp_path: Path,
) -> None:
    root = pictures(tmp_path, {"a": 4, "b": 4})
    bad = opened(root, bad="skip").test[0].impath
    Path(bad).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1 of 8 pictures.*delete \".*split_image_folder.json\"") as error:
        opened(root, bad="skip")
    assert str(error.value).startswith(f'"{bad}" (cannot identify')
    kept_split(root).unlink()
    assert bad not in [item.impath for item in opened(root, bad="skip").test]


def test_classes_called_train_and_test_are_classes_only_if_class_names_say_so(tmp_path: Path) -> None:
    root = pictures(tmp_path, {"train": 4, "test": 4})
    with pytest.raises(ValueError, match="test, train, which look like parts, but no class folders in them"):
        opened(root)
    (root / "classnames.txt").write_text("train steam train\n")
    assert opened(root).classnames == ["test", "steam train"]


def test_few_shots_and_halves_of_the_classes_work(tmp_path: Path) -> None:
    root = pictures(tmp_path, {name: 10 for name in "edcba"})
    base, new = opened(root, shots=2, subsample="base"), opened(root, shots=2, subsample="new")
    assert (base.classnames, new.classnames) == (["a", "b", "c"], ["d", "e"])
    assert (len(base.train_x), len(base.val), len(base.test)) == (6, 6, 9)
    assert sorted({item.label for item in new.test}) == [0, 1]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classnames.txt", "n1 ice cream\nn2\ttea\n"),
        ("classnames.txt", "\ufeffn1 ice cream\r\nn2 tea\r\n"),
        ("classnames.json", '{"n1": "ice cream", "n2": "tea"}'),
    ],
)
def test_classes_are_renamed_by_a_file_also_after_the_split(tmp_path: Path, file: str, text: str) -> None:
    root = pictures(tmp_path, {"n1": 4, "n2": 4, "n3": 4})
    assert opened(root).classnames == ["n1", "n2", "n3"]
    (root / file).write_text(text, encoding="utf-8")
    assert opened(root).classnames == ["ice cream", "tea", "n3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n1 tea\nn9 milk\n", 'the folder "n9", which is no class; classes: n1, n2'),
        ("n1 tea\nn2 tea\n", 'two folders are called "tea"'),
        ("n1\n", "lines of classnames.txt are <folder> <class name>"),
        ("n1 tea\nn2 milk\nn1 ice\n", r'classnames.txt" does not .* \("n1" stands there twice'),
        ('{"n1": "tea", "n1": "ice"}', r'classnames.json" does not .* \("n1" stands there twice'),
        ("n1 \u200b\n", "a name is no text"),
    ],
)
def test_class_names_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    root = pictures(tmp_path, {"n1": 4, "n2": 4})
    (root / f"classnames.{'json' if text.startswith('{') else 'txt'}").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        opened(root)


@pytest.fixture
def spoiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = pictures(tmp_path / "spoiled", {"a": 6, "b": 6})
    (root / "a" / "empty.jpg").touch()
    (root / "a" / "text.png").write_text("no picture")
    Image.effect_noise((80, 80), 99).save(root / "b" / "cut.jpg")
    whole = (root / "b" / "cut.jpg").read_bytes()
    (root / "b" / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    Image.new("1", (5000, 4000)).save(root / "b" / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000_000)
    return root


def test_unreadable_empty_and_huge_pictures_are_refused_by_path(spoiled: Path) -> None:
    with pytest.raises(ValueError, match="4 of 16 pictures cannot be used") as error:
        opened(spoiled)
    message = str(error.value)
    assert f'"{spoiled}/a/empty.jpg" (the file is empty)' in message
    assert f'"{spoiled}/a/text.png" (cannot identify image file' in message
    assert f'"{spoiled}/b/cut.jpg" (image file is truncated' in message
    assert f'"{spoiled}/b/huge.png" (too large: Image size (20000000 pixels) exceeds limit' in message
    assert message.endswith("Remove them, or set DATASET.BAD_IMAGES skip")
    assert not (spoiled / "split_image_folder.json").exists()


def test_a_key_skips_them_and_says_so(spoiled: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        dataset = opened(spoiled, bad="skip")
    assert len(dataset.train_x) + len(dataset.val) + len(dataset.test) == 12
    for name in ("a/empty.jpg", "a/text.png", "b/cut.jpg", "b/huge.png"):
        assert f'Skipped "{spoiled}/{name}"' in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        opened(spoiled)  # the split knows them
    assert not caplog.text
    with pytest.raises(ValueError, match='BAD_IMAGES is "drop"; set it to refuse or skip'):
        opened(spoiled, bad="drop")


def test_other_files_are_counted_and_folders_without_pictures_are_no_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = pictures(tmp_path, {"a": 4, "b": 4})
    (root / "a" / "photo.heic2").touch()
    (root / "a" / "film.mpg").touch()
    (root / "a" / ".DS_Store").touch()
    (root / "empty").mkdir()
    (root / ".git").mkdir()
    for folder in ("split_fewshot", "descriptions"):
        (root / folder).mkdir()
        (root / folder / "ours.json").touch()
    paint(root / "b" / "deeper" / "more.JPG", format="JPEG")
    with caplog.at_level(logging.WARNING):
        dataset = opened(root)
    assert dataset.classnames == ["a", "b"]
    assert "b/deeper/more.JPG" in names(root, dataset.train_x + dataset.val + dataset.test)
    assert "2 files are passed by" in caplog.text
    assert '/empty" holds no pictures' in caplog.text
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("numbers", "message"),
    [({}, "has no folders with pictures"), ({"a": 5, "b": 1}, 'class "b" has 1 picture')],
)
def test_folders_that_cannot_be_split_are_refused(tmp_path: Path, numbers: dict, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        opened(pictures(tmp_path, numbers))


def test_a_class_without_training_pictures_is_named(tmp_path: Path) -> None:
    pictures(tmp_path / "train", {"a": 3, "c": 3})
    pictures(tmp_path / "test", {"a": 3, "b": 3})
    with pytest.raises(ValueError, match='class "b" of test has no pictures in train'):
        opened(tmp_path)


def test_pictures_that_came_or_went_after_the_split_are_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = pictures(tmp_path, {"a": 4, "b": 4})
    before = opened(root)
    paint(root / "a" / "new.png")
    with caplog.at_level(logging.WARNING):
        assert names(root, opened(root).train_x) == names(root, before.train_x)
    assert "1 pictures are not in the split" in caplog.text
    Path(before.test[0].impath).unlink()
    with pytest.raises(FileNotFoundError, match=r"\(1 of 8 are gone\); put them back, or delete"):
        opened(root)


@pytest.mark.parametrize("parts", [False, True])
def test_names_written_into_the_split_are_taken(parts: bool, tmp_path: Path) -> None:
    root = tmp_path
    for place in ("train", "test") if parts else (".",):
        pictures(root / place, {"a": 4, "b": 4})
    opened(root)
    file = kept_split(root)
    split = json.loads(file.read_text())
    for part in ("train", "val", "test"):
        split[part] = [[path, label, ["ant", "bee"][label]] for path, label, _ in split[part]]
    file.write_text(json.dumps(split))
    assert opened(root).classnames == ["ant", "bee"]


@pytest.mark.parametrize(("link", "to"), [("data/b", "data/a"), ("data/test", "data/train")])
def test_links_to_pictures_of_the_same_split_are_warned_of_in_each_run(
    link: str, to: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "data"
    pictures(root / "train" if link.endswith("test") else root, {"a": 4, "c": 4})
    (tmp_path / link).symlink_to(tmp_path / to)
    for _ in range(2):
        caplog.clear()
        opened(root)
        (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert " pictures of the split are links to others of it" in line


def test_a_damaged_split_is_named(tmp_path: Path) -> None:
    root = pictures(tmp_path, {"a": 4, "b": 4})
    opened(root)
    file = kept_split(root)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"skipped": 5}))
    with pytest.raises(ValueError, match=f'"{file}": "skipped" is 5, not an object'):
        opened(root)
    file.write_text('{"train": 1}')
    with pytest.raises(ValueError, match="split_image_folder.json.* is not a split file"):
        opened(root)


def test_a_split_in_the_folder_comes_before_the_kept_one(tmp_path: Path) -> None:
    root = pictures(tmp_path, {"a": 4, "b": 4})
    before = sorted(root.rglob("*"))
    drawn = opened(root)
    assert sorted(root.rglob("*")) == before
    split = json.loads(kept_split(root).read_text())
    own = {"train": split["test"], "val": split["val"], "test": split["train"]}
    (root / "split_image_folder.json").write_text(json.dumps(own))
    assert names(root, opened(root).test) == names(root, drawn.train_x)


def test_where_nothing_can_be_kept_each_run_draws_the_same_split(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = pictures(tmp_path, {"a": 9, "b": 4})
    (own_cache / "vlm-heba").write_text("a file in the place of the folder")
    first = names(root, opened(root).test)
    assert "The split cannot be kept" in caplog.text
    assert names(root, opened(root).test) == first


MODES = {
    "grey.png": ("L", {}),
    "grey_alpha.png": ("LA", {}),
    "palette.png": ("P", {}),
    "transparent.gif": ("P", {"transparency": 0}),
    "rgba.png": ("RGBA", {}),
    "cmyk.jpg": ("CMYK", {}),
    "black_white.png": ("1", {}),
    "deep.png": ("I;16", {}),
    "deep.tif": ("I;16", {}),
    "lossless.webp": ("RGBA", {"lossless": True}),
    "frames.gif": ("P", {"save_all": True}),
}


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_every_mode_is_read_as_torchvision_reads_it_or_refused_where_it_would_turn_white(
    tmp_path: Path,
) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, (mode, options) in MODES.items():
        path = tmp_path / "all" / name
        path.parent.mkdir(exist_ok=True)
        raw = torch.randint(0, 256, (30, 40, 4), generator=generator, dtype=torch.uint8).numpy()
        if mode == "I;16":
            image = Image.fromarray(raw[..., :2].copy().view("<u2")[..., 0])
        else:
            image = Image.fromarray(raw, "RGBA").convert("RGB").convert(mode)
        image.save(path, **options)
        assert bool(fault(path)) == (mode == "I;16"), name
    Image.new("I;16", (9, 9), 255).save(tmp_path / "all" / "deep_format.png")
    assert not fault(tmp_path / "all" / "deep_format.png")
    for path in sorted(tmp_path.glob("all/*")):
        if path.name in ("deep.png", "deep.tif"):
            with pytest.raises(OSError, match=f"{path.name}.* cannot be used .*save it with 8 bits"):
                read_image(str(path))
            continue
        theirs, ours = default_loader(str(path)), read_image(str(path))
        assert ours.mode == "RGB"
        assert ours.tobytes() == theirs.tobytes(), path
        assert read_image(str(path), upright=True).tobytes() == theirs.tobytes(), path


def turned(path: Path) -> Path:
    """A picture whose left half is red, stored lying on its side, as a phone held upright stores it."""
    image = Image.new("RGB", (40, 20), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, exif=exif, quality=95)
    return path


def test_own_pictures_are_turned_upright_and_the_published_data_sets_are_not(tmp_path: Path) -> None:
    from runner.config import merge_file

    for name in ("a", "b"):
        for i in range(3):
            turned(tmp_path / name / f"{i}.jpg")
    cfg = config(tmp_path, "ImageFolder", shots=-1)
    assert not cfg.INPUT.EXIF_TRANSPOSE
    merge_file(cfg, "--dataset-config-file", YAML)
    cfg.INPUT.SIZE = (8, 8)
    cfg.DATALOADER.NUM_WORKERS = 0
    pixels = DataManager(cfg).test_loader.dataset[0]["img"]  # (3, 8, 8), red above blue
    assert pixels[0, :3].min() > 0.8
    assert pixels[2, 5:].min() > 0.8
    cfg.INPUT.EXIF_TRANSPOSE = False
    pixels = DataManager(cfg).test_loader.dataset[0]["img"]
    assert pixels[0, :, :3].min() > 0.8
    assert pixels[2, :, 5:].min() > 0.8


def command(root: Path, output: Path, opts: list[str], *flags: str, trainer: str = "HeBA") -> list[str]:
    config = {"HeBA": "base2new", "ZeroshotCLIP": "vit_b16"}[trainer]
    return train_words(root, output, *flags, *opts, trainer=trainer, config=config, dataset="image_folder")


def test_train_py_goes_from_a_folder_of_pictures_to_base_and_novel(
    tmp_path: Path, toy_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = pictures(tmp_path / "mine", {"red": 8, "green": 8, "dark_blue": 8, "grey": 8})
    output = tmp_path / "out"
    opts = [*toy_flags, "OPTIM.MAX_EPOCH", "1"]
    base = [*opts, "DATASET.SUBSAMPLE_CLASSES", "base"]
    assert train.main(command(root, output / "base", base)) == 0
    assert "split_image_folder.json" in capsys.readouterr().out
    new = [*opts, "DATASET.SUBSAMPLE_CLASSES", "new"]
    flags = ["--eval-only", "--model-dir", str(output / "base"), "--load-epoch", "last"]
    assert train.main(command(root, output / "new", new, *flags)) == 0
    records = [json.loads((output / part / "results.json").read_text()) for part in ("base", "new")]
    assert [(record["num_classes"], record["total"]) for record in records] == [(2, 4), (2, 4)]
    assert records[0]["dataset"] == "ImageFolder"


def test_templates_and_descriptions_of_own_pictures(tmp_path: Path, tiny_clip_path: Path) -> None:
    from trainers.heba import HeBA
    from trainers.zsclip import ZeroshotCLIP

    cfg = config(tmp_path, "ImageFolder")
    cfg.DATASET.TEMPLATE = "an X-ray of a {}."

    def prompts(trainer: type) -> list[list[str]]:
        return trainer.method_of(cfg).prompts(["broken_arm"])

    assert prompts(HeBA) == prompts(ZeroshotCLIP) == [["an X-ray of a broken arm."]]
    described = tmp_path / "own.json"
    described.write_text(json.dumps({"Broken Arm": ["its bone has a gap."]}))
    cfg.TRAINER.HeBA.DESCRIPTIONS = str(described)
    assert prompts(HeBA) == [["a photo of a broken arm, its bone has a gap."]]
    cfg.TRAINER.HeBA.TEMPLATES = ("a {}.",)
    assert prompts(HeBA) == [["a broken arm."]]
    cfg.TRAINER.HeBA.TEMPLATES, cfg.TRAINER.HeBA.DESCRIPTIONS, cfg.DATASET.TEMPLATE = (), "", ""
    with pytest.raises(FileNotFoundError, match="descriptions/imagefolder.json"):
        prompts(HeBA)
    assert prompts(ZeroshotCLIP) == [["a photo of a broken arm."]]
