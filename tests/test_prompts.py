"""Each class has prompts of its own, and descriptions are found by name: what a run and predict.py refuse."""

import json
import logging
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

import predict
import train
from adapt.learned_words import Context
from adapt.prompts import (
    ClassPrompts,
    check_distinct,
    described_prompts,
    description_prompts,
    template_prompts,
)
from dassl.config import get_cfg_default
from datasets import prepare
from datasets.preparation.descriptions import described
from datasets.preparation.sources import find_source, load_sources
from demo import make_data
from runner.config import extend_cfg
from tests.test_datasets_image_folder import command, own_cache, pictures  # noqa: F401
from trainers.class_texts import DATASETS, check_class_prompts, class_texts

IMAGENET = SimpleNamespace(NAME="ImageNetV2", ROOT="data")
OWN = SimpleNamespace(NAME="ImageFolder", ROOT="mine")


def check(prompts: ClassPrompts, names: list[str], data: SimpleNamespace | None = None) -> None:
    """What a run checks of its data set's classes, or what ``predict.py --classes`` checks."""
    if data is None:
        check_distinct(prompts, names)
    else:
        check_class_prompts(SimpleNamespace(DATASET=data), prompts, names)


def prompts_of(names: list[str], *templates: str) -> ClassPrompts:
    return ClassPrompts.tokenize(template_prompts(names, templates or ["a photo of a {}."]))


@pytest.mark.parametrize(
    "pair",
    [
        ("cat", "cat"),
        ("cat", "Cat"),
        ("Sea Lion", "sea_lion"),
        ("cat", "cat "),
        ("on " * 90 + "a", "on " * 90),
    ],
)
@pytest.mark.parametrize("data", [OWN, None])
def test_classes_with_the_same_tokens_are_refused_by_name(pair: tuple[str, str], data: object) -> None:
    names = ["dog", *pair]
    with pytest.raises(ValueError, match="are the same to CLIP") as caught:
        check(prompts_of(names, "a photo of a {}.", "a sketch of a {}."), names, data)
    assert f'"{pair[0]}" and "{pair[1]}"' in str(caught.value)
    assert ('data set ImageFolder below "mine"' if data else "--classes") in str(caught.value)


def test_one_prompt_of_many_is_enough_to_tell_classes_apart() -> None:
    names = ["cat", "dog"]
    check(prompts_of(names, "a {}.", "the {}."), names)
    shared = ClassPrompts.tokenize([["a pet.", "a cat."], ["a pet.", "a dog."]])
    check(shared, names)
    with pytest.raises(ValueError, match="are the same to CLIP"):
        check(ClassPrompts.tokenize([["a pet.", "a cat."], ["A cat.", "a pet."]]), names)
    often = ClassPrompts.tokenize([["a pet.", "a cat.", "a cat."], ["a pet.", "a pet.", "a cat."]])
    check(often, names)  # another mean


@pytest.mark.parametrize("name", ["", " ", "_", "\t", "\u200b", "\ufeff_\u2060", "\u3164", "\ufe0f"])
def test_a_class_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f'--classes: the class name "{name}" is empty'):
        check(prompts_of(["cat", name]), ["cat", name])


def test_the_pairs_that_imagenet_has_are_a_warning_and_others_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from open_clip import IMAGENET_CLASSNAMES as names

    with caplog.at_level(logging.WARNING):
        check(prompts_of(names), names, IMAGENET)
    pairs = [f'"{name}" and "{name}"' for name in ("missile", "sunglasses")]
    assert [pair in line for pair, line in zip(pairs, caplog.messages, strict=True)] == [True, True]
    with pytest.raises(ValueError, match='"missile" and "missile"'):
        check(prompts_of(names), names, OWN)
    cut = ["on " * 90 + "a", "on " * 90]
    with pytest.raises(
        ValueError, match="are the same to CLIP"
    ):  # another name, cut: not the data set's fault
        check(prompts_of(cut), cut, IMAGENET)


@pytest.mark.parametrize("own", [False, True])
def test_only_learned_words_of_single_classes_tell_equal_names_apart(own: bool) -> None:
    context = Context(words="a photo of a", number=4, random=False, class_specific=own)
    names = ["cat", "Cat"]
    prompts = context.tokenize(context.texts(names))
    if own:
        check(prompts, names, OWN)
    else:
        with pytest.raises(ValueError, match='"cat" and "Cat"'):
            check(prompts, names, OWN)


@pytest.mark.parametrize("trainer", ["HeBA", "ZeroshotCLIP"])
def test_a_run_on_folders_that_read_alike_ends_with_one_line(
    trainer: str, tmp_path: Path, toy_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = pictures(tmp_path / "mine", {"Sea Lion": 8, "sea_lion": 8, "dog": 8})
    opts = toy_flags if trainer == "HeBA" else [*toy_flags[:4], "DATALOADER.NUM_WORKERS", "0"]
    assert train.main(command(root, tmp_path / "out", opts, trainer=trainer)) == 2
    error = capsys.readouterr().err
    assert 'the prompts of classes "Sea Lion" and "sea_lion" are the same to CLIP' in error
    assert "data set ImageFolder" in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").rglob("results.json"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "Cat"], '"cat" and "Cat" are the same'),
        (["cat", ""], '--classes: the class name "" is empty'),
        (["cat"], '--classes is "cat" alone, so every answer would be that; give two names or more ('),
        (["cat,dog"], "give two names or more; separate the names by spaces, not by commas"),
    ],
)
def test_predict_refuses_classes_that_cannot_be_told_apart(
    names: list[str],
    message: str,
    toy_data: Path,
    tiny_clip_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = str(next((toy_data / "caltech-101").rglob("*.png")))
    flags = ["--backbone", str(tiny_clip_path), "--quick-gelu"]
    assert predict.main([picture, *flags, "--classes", *names]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_missing_description_is_named_with_the_name_that_comes_near(tmp_path: Path) -> None:
    path = tmp_path / "flowers.json"
    path.write_text(json.dumps({"globe flower": ["x."], "Rose": ["y."], "fox": ["z."]}))
    with pytest.raises(
        ValueError, match=r'no globe-flower \(it has "globe flower"\), iris: 2 .*; rename in the file'
    ):
        description_prompts(["globe-flower", "rose", "iris"], path, "a photo of a")
    with pytest.raises(ValueError, match=r"describes no iris: 1 classes are missing; or else$"):
        description_prompts(["rose", "iris"], path, "a photo of a", remedy="; or else")


@pytest.mark.parametrize("names", [("Sea Lion", "sea_lion"), ("cat", "cat")])
def test_two_descriptions_of_one_name_are_refused_with_both(names: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(f'{{"{names[0]}": ["a."], "{names[1]}": ["b."], "dog": ["c."]}}')
    with pytest.raises(ValueError, match=f'"{names[0]}" and "{names[1]}" are the same class name'):
        description_prompts(["dog"], path, "a photo of a")


def test_a_sentence_without_a_visible_character_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"cat": ["a."], "dog": ["b.", "\u200b \u2060"]}))
    with pytest.raises(ValueError, match="class dog has .* instead of a list of sentences"):
        description_prompts(["cat", "dog"], path, "a photo of a")
    assert description_prompts(["cat"], path, None) == [["a."]]


@pytest.mark.parametrize("text", ["[1]", '"a"', "3", "{", "[" * 100_000, '[["cat", ["a."]]]'])
def test_other_json_than_an_object_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match="is not a JSON object") as caught:
        description_prompts(["cat"], tmp_path / "x.json", None)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", [*DATASETS, "ImageFolder", "Mine"])
def test_missing_descriptions_have_a_remedy_that_works(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published are fetched, the demo's are drawn, the user writes those of his own data set."""
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.DATASET.NAME, cfg.DATASET.ROOT = name, str(tmp_path / "my data")
    path = class_texts(cfg).descriptions
    with pytest.raises(FileNotFoundError) as caught:
        described_prompts(
            ["cat"], class_texts(cfg), cfg.TRAINER.HeBA, "TRAINER.HeBA", "a photo of a", "; or else"
        )
    message = str(caught.value)
    assert message.startswith(
        f'LLM descriptions "{path}" are missing: a JSON object {{"class name": ["sentence"'
    )
    assert message.endswith("; or else")
    _, found, command = message.partition("get it with: python ")
    if name not in DATASETS:
        assert "write the file, with every class of the data set in it, or name another with " in message
        assert "TRAINER.HeBA.DESCRIPTIONS" in message
        assert not found
        return
    words = shlex.split(command.removesuffix("; or else"))
    if "Demo" in name:
        monkeypatch.setattr(make_data, "draw_class", lambda *drawn: 0)
        assert words[0] == "demo/make_data.py"
        assert make_data.main(words[1:]) == 0
        assert path.is_file()
        return
    assert words[:2] == ["-m", "datasets.prepare"]
    args = prepare.parse_args(words[2:])
    keyword, stem = args.names
    (source,) = described([find_source(stem, load_sources())])  # it has descriptions
    assert (keyword, Path(args.root)) == (prepare.DESCRIPTIONS, tmp_path / "my data")
    assert path == Path(args.root) / "descriptions" / f"{source.config}.json"


def test_descriptions_that_an_option_names_are_not_looked_for_elsewhere(tmp_path: Path) -> None:
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.DATASET.NAME = "Caltech101"
    cfg.TRAINER.LWEIB.DESCRIPTIONS = str(tmp_path / "typo.json")
    with pytest.raises(
        FileNotFoundError, match="; correct TRAINER.LWEIB.DESCRIPTIONS, or write the file; or"
    ):
        described_prompts(
            ["cat"], class_texts(cfg), cfg.TRAINER.LWEIB, "TRAINER.LWEIB", "a photo of a", "; or else"
        )
