"""The demo's world, its pictures and data sets, and the pretraining that its recipe describes."""

import contextlib
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from yacs.config import CfgNode

from dassl.data.datasets import build_dataset
from demo import make_data, pretrain, world
from demo.render import STYLES, render
from runner.config import extend_cfg
from tests.conftest import ROOT

RECIPE = json.loads((ROOT / "demo" / "recipe.json").read_text())


def recorded_recipe() -> pretrain.Recipe:
    return pretrain.Recipe(**RECIPE["recipe"] | {"betas": tuple(RECIPE["recipe"]["betas"])})


def shows_a_few_shot_class(pictures: np.ndarray) -> np.ndarray:
    """Tell for each picture, attribute by attribute, whether its colour, texture and shape are a class's."""
    columns = pictures[:, [world.COLOUR, world.TEXTURE, world.SHAPE]]
    return (columns[:, None] == np.array(world.CLASSES)[None]).all(-1).any(-1)


# The few-shot classes and the pretraining
def test_the_committed_weights_were_made_by_the_default_recipe() -> None:
    assert recorded_recipe() == pretrain.Recipe()
    assert RECIPE["shape"] == pretrain.SHAPE
    assert RECIPE["held_out"] == [world.class_name(triple) for triple in world.CLASSES]


def test_no_picture_of_the_pretraining_shows_a_few_shot_class() -> None:
    pictures = pretrain.pool_of_pictures(recorded_recipe())
    assert len(pictures) == RECIPE["recipe"]["pool"]
    assert not shows_a_few_shot_class(pictures).any()
    # The same draw without holding them out would show them, so the look above can fail.
    unlimited = world.sample_pictures(2000, np.random.default_rng(0), held_out=())
    assert shows_a_few_shot_class(unlimited).mean() == pytest.approx(40 / (8 * 4 * 12), abs=0.03)
    # Everything else occurs: all other triples, and each attribute of every class.
    triples = {tuple(row) for row in pictures[:, :3].tolist()}
    assert len(triples) == 8 * 4 * 12 - 40


def test_no_caption_of_the_pretraining_names_a_few_shot_class() -> None:
    rng = random.Random(recorded_recipe().seed)
    pictures = pretrain.pool_of_pictures(recorded_recipe())[:30_000].tolist()
    names = [world.class_name(triple).split() for triple in world.CLASSES]
    forbidden = {frozenset(words) for words in names}
    forbidden |= {frozenset([*words[:2], world.plural(words[2])]) for words in names}
    seen = {
        frozenset(trio)
        for picture in pictures
        for trio in [naming_words(world.caption(picture, rng)[0])]
        if len(trio) == 3
    }
    assert len(seen) > 300
    assert not seen & forbidden


def naming_words(caption: str) -> set[str]:
    """The words of a caption for colour, texture and shape."""
    words = {*world.COLOURS, *world.TEXTURES, *world.SHAPES, *map(world.plural, world.SHAPES)}
    return words & set(caption.replace(",", " ").replace(".", " ").split())


def test_halves_of_the_classes_share_every_word_but_no_pair_of_colour_and_shape() -> None:
    assert len(set(world.CLASSES)) == 40
    assert len({(colour, shape) for colour, _, shape in world.CLASSES}) == 40
    for half in (world.CLASSES[:20], world.CLASSES[20:]):
        for column, values in enumerate((world.COLOURS, world.TEXTURES, world.SHAPES)):
            assert {triple[column] for triple in half} == set(range(len(values)))


# Words
def test_captions_and_descriptions_use_words_of_the_world_alone() -> None:
    known = set(pretrain.world_tokens().tolist())
    rng = random.Random(0)
    texts = [world.caption(p, rng)[0] for p in world.sample_pictures(3000, np.random.default_rng(0)).tolist()]
    for data_set in make_data.DATA_SETS.values():
        for name, sentences in make_data.descriptions(data_set).items():
            assert len(set(sentences)) == 20
            texts += [f"a photo of a {name}, {sentence}" for sentence in sentences]
    tokens = pretrain.tokenize(texts, pretrain.POSITIONS)  # raises if a text is longer
    assert set(tokens.unique().tolist()) <= known


def test_descriptions_are_true_of_their_class() -> None:
    for triple in world.CLASSES:
        own = {*world.class_name(triple).split()}
        for sentence in world.descriptions(world.few_shot_template(triple)):
            assert naming_words(sentence) <= own


def test_captions_are_true_and_say_what_they_name() -> None:
    rng = random.Random(3)
    values = list(world.ATTRIBUTES.values())
    for picture in world.sample_pictures(500, np.random.default_rng(3)).tolist():
        text, named = world.caption(picture, rng)
        spaced = f" {text} ".replace(",", " ").replace(".", " ")
        for column in (world.COLOUR, world.TEXTURE, world.SIZE, world.BACKGROUND):
            said = [i for i, value in enumerate(values[column]) if f" {value} " in spaced]
            assert said == ([picture[column]] if named[column] else []), text


def test_only_true_captions_of_others_are_spared_as_negatives() -> None:
    pictures = torch.tensor([[0, 1, 2, 1, 0, 0], [0, 1, 2, 0, 0, 5], [3, 1, 2, 1, 0, 0]])
    colour_and_shape = [True, False, True, False, False, False]
    all_of_it = [True] * 6
    named = torch.tensor([colour_and_shape, all_of_it, colour_and_shape])
    expected = [[True, False, False], [True, True, False], [False, False, True]]
    assert pretrain.true_of(pictures, named).tolist() == expected


# Pictures
def test_a_seed_gives_the_same_pictures_and_styles_differ() -> None:
    table = world.sample_pictures(24, np.random.default_rng(0))
    drawn = {name: render(table, style, np.random.default_rng(1)) for name, style in STYLES.items()}
    assert len(drawn) >= 4
    for name, images in drawn.items():
        assert images.shape == (24, 3, 48, 48)
        assert images.dtype == torch.uint8
        assert torch.equal(images, render(table, STYLES[name], np.random.default_rng(1)))
        if name != "plain":
            assert (images.float() - drawn["plain"].float()).abs().mean() > 10
    red, green, blue = drawn["warm"].float().mean((0, 2, 3))
    assert red > blue
    red, green, blue = drawn["cold"].float().mean((0, 2, 3))
    assert blue > red
    assert drawn["dark"].float().mean() < drawn["plain"].float().mean()


def test_a_large_object_of_each_shape_has_its_colour_and_its_area() -> None:
    """On a background of another colour, and neither all of the picture nor next to nothing."""
    quiet = replace(STYLES["plain"], clutter=(0, 0), noise=(0.0, 0.0), hue_noise=0.0, ground=0.0)
    for shape, name in enumerate(world.SHAPES):
        table = np.array([[0, 0, shape, 1, 0, 5]] * 8)  # solid red, large, on water
        red, green, _ = render(table, quiet, np.random.default_rng(shape)).float().unbind(1)
        share = ((red > 150) & (green < 100)).float().mean().item()
        assert 0.05 < share < 0.5, name


def test_the_contact_sheet_shows_every_style(tmp_path: Path) -> None:
    assert make_data.main(["--contact-sheet", str(tmp_path / "sheet.png")]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 2 * 2 * 48 * len(STYLES)


# Data sets on disk
SMALL = replace(
    make_data.DATA_SETS["demo"],
    classes=make_data.DATA_SETS["demo"].classes[:4],
    images={"train": 3, "val": 1, "test": 2},
)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_cut_call_is_continued_to_the_same_files(tmp_path: Path) -> None:
    make_data.make("demo", SMALL, tmp_path)
    whole = contents(tmp_path)
    assert sum(name.endswith(".png") for name in whole) == 4 * 6
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert ", 0 of them drawn now" in make_data.make("demo", SMALL, tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    (tmp_path / "demo" / "split_zhou_Demo.json").unlink()
    next(tmp_path.rglob("test_001.png")).unlink()
    assert ", 6 of them drawn now" in make_data.make("demo", SMALL, tmp_path)
    next(tmp_path.rglob("test_001.png")).write_bytes(b"")  # the disk was full
    assert ", 6 of them drawn now" in make_data.make("demo", SMALL, tmp_path)
    assert contents(tmp_path) == whole


def test_pictures_of_another_version_are_drawn_anew(tmp_path: Path) -> None:
    make_data.make("demo", replace(SMALL, style="dark"), tmp_path)
    old = contents(tmp_path)
    note = tmp_path / "demo" / "images" / "note.txt"
    note.write_text("mine")
    assert ", 24 of them drawn now" in make_data.make("demo", SMALL, tmp_path)
    assert note.read_text() == "mine"  # only what the script drew is replaced
    note.unlink()
    new = contents(tmp_path)
    assert old.keys() == new.keys()
    assert all(old[name] != new[name] for name in old if name.endswith(".png"))


def test_descriptions_and_splits_that_the_user_changed_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_data.make("demo", SMALL, tmp_path)
    whole = contents(tmp_path)
    changed = [tmp_path / "descriptions" / "demo.json", tmp_path / "demo" / "split_zhou_Demo.json"]
    for path in changed:
        path.write_text("{}")
    make_data.make("demo", SMALL, tmp_path)
    said = capsys.readouterr().err
    for path in changed:
        assert f'warning: "{path}" was changed and stays as it is; delete it to get the original' in said
        assert path.read_text() == "{}"
        path.unlink()
    make_data.make("demo", SMALL, tmp_path)
    assert contents(tmp_path) == whole
    changed[1].write_text("{}")  # and the pictures are of another version
    (tmp_path / "demo" / make_data.STAMP).write_text("another")
    make_data.make("demo", SMALL, tmp_path)
    assert contents(tmp_path) == whole | {"demo/split_zhou_Demo.json.old": b"{}"}


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine.txt").write_text("x")
    assert make_data.main(["--root", str(tmp_path), "demo"]) == 2
    assert "was not made by this script" in capsys.readouterr().err
    assert list(contents(tmp_path)) == ["demo/mine.txt"]


def dataset_cfg(root: Path, name: str, shots: int = -1) -> CfgNode:
    from dassl.config import get_cfg_default

    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.merge_from_list(
        ["DATASET.ROOT", str(root), "DATASET.NAME", name, "DATASET.NUM_SHOTS", shots, "SEED", 1]
    )
    return cfg


@pytest.mark.parametrize("stem", list(make_data.DATA_SETS))
def test_every_data_set_loads_with_its_classes(stem: str, tmp_path: Path) -> None:
    data_set = replace(make_data.DATA_SETS[stem], images={"train": 2, "val": 1, "test": 1})
    assert (ROOT / "configs" / "datasets" / f"{stem}.yaml").read_text().count(f'NAME: "{data_set.name}"') == 1
    with pytest.raises(FileNotFoundError, match=rf"python demo/make_data\.py --root .* {stem}$"):
        build_dataset(dataset_cfg(tmp_path, data_set.name))
    make_data.make(stem, data_set, tmp_path)
    loaded = build_dataset(dataset_cfg(tmp_path, data_set.name))
    assert loaded.classnames == data_set.class_names()
    assert len(set(loaded.classnames)) == len(data_set.classes) >= 20
    assert [len(part) for part in (loaded.train_x, loaded.val, loaded.test)] == [
        len(data_set.classes) * count for count in (2, 1, 1)
    ]
    from adapt.prompts import description_prompts
    from trainers.class_texts import class_texts

    path = class_texts(dataset_cfg(tmp_path, data_set.name)).descriptions
    assert len(description_prompts(loaded.classnames, path, "a photo of a")[0]) == 20


def test_the_few_shot_set_has_images_for_sixteen_shots_and_separate_tests() -> None:
    images = make_data.DATA_SETS["demo"].images
    assert len(make_data.DATA_SETS["demo"].classes) == 40
    assert images["train"] >= 16
    assert images["val"] >= 4
    assert images["test"] >= 30
    assert make_data.DATA_SETS["demo"].style != "plain"
    for stem in ("demo_cold", "demo_dark"):
        assert make_data.DATA_SETS[stem].classes == make_data.DATA_SETS["demo"].classes
    assert (
        len({make_data.DATA_SETS[stem].style for stem in ("demo", "demo_cold", "demo_dark")} | {"plain"}) == 4
    )


# The pretraining script
def test_pretraining_runs_and_its_seed_decides_the_weights(tmp_path: Path) -> None:
    tiny = ["--steps", "3", "--batch", "8", "--pool", "16", "--watch", "0"]
    digests = []
    for folder, seed in (("one", "1"), ("again", "1"), ("other", "2")):
        pretrain.main(["--out", str(tmp_path / folder), "--seed", seed, *tiny])
        digests.append(json.loads((tmp_path / folder / "recipe.json").read_text())["tensors_sha256"])
    assert digests[0] == digests[1] != digests[2]
    before = contents(tmp_path)
    assert pretrain.main(["--out", str(tmp_path / "one"), *tiny]) == 2  # nothing is written over
    assert contents(tmp_path) == before
    import clip

    model, _ = clip.load(str(tmp_path / "one" / pretrain.WEIGHTS), device="cpu")
    assert model.visual.input_resolution == 48


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch", "0"], '--batch: "0" is no such number; set it to 1 or more'),
        (["--steps", "-1"], '--steps: "-1" is no such number; set it to 0 or more'),
        (["--watch", "-1"], '--watch: "-1" is no such number; set it to 0 or more'),
        (["--batch", "20", "--pool", "16"], "--batch 20 is more than --pool 16: enlarge the pool"),
    ],
)
def test_pretraining_refuses_sizes_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture, flags: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        pretrain.main(["--out", str(tmp_path / "out"), *flags])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_loss_falls_within_a_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning works: after some steps pictures and captions of the pool fit better than at the start."""
    # In float32: most CPUs only emulate bfloat16.
    monkeypatch.setattr(torch, "autocast", lambda *_: contextlib.nullcontext())
    losses = []
    for steps in (1, 12):
        recipe = replace(pretrain.Recipe(), steps=steps, batch=16, pool=32, warmup=3)
        model, rng = pretrain.pretrain(recipe), random.Random(0)
        pictures = pretrain.pool_of_pictures(recipe)[:32]
        images = pretrain.draw_all(pictures, np.random.default_rng([recipe.seed, 1]))
        told = [world.caption(picture, rng) for picture in pictures.tolist()]
        tokens = pretrain.compact(
            pretrain.tokenize([text for text, _ in told], pretrain.POSITIONS), pretrain.world_tokens()
        )
        also_true = pretrain.true_of(torch.from_numpy(pictures), torch.tensor([named for _, named in told]))
        with torch.no_grad():
            image, text = model.encode_image(pretrain.normalised(images)), model.encode_text(tokens)
            losses.append(pretrain.contrastive_loss(image, text, model.logit_scale.exp(), also_true).item())
    assert losses[1] < losses[0] - 0.2
