"""predict.py: a trained run or zero-shot CLIP on pictures; the numbers are those of train.py's evaluation."""

import csv
import io
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import predict
import train
from command_line import make_streams_usable
from dassl.data import DataManager
from predict import Predictor
from tests.conftest import TOY_CLASSES, run_main
from tests.test_datasets_image_folder import turned
from tests.test_train import command


@pytest.fixture(autouse=True)
def no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: runs of other tests have set up logging to the standard output."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, toy_data: Path, toy_flags: list[str]) -> Path:
    """A run of one epoch on all classes."""
    output = tmp_path_factory.mktemp("run")
    arguments = command(toy_data, output, [*toy_flags, "OPTIM.MAX_EPOCH", "1"])
    done = run_main(train.main, arguments)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def pictures(toy_data: Path) -> list[str]:
    return sorted(str(path) for path in (toy_data / "caltech-101").rglob("*.png"))


def test_predictions_are_the_evaluated_models_own(trained: Path, toy_data: Path) -> None:
    predictor = Predictor(trained)
    predictor.cfg.defrost()
    predictor.cfg.DATASET.ROOT = str(toy_data)
    manager = DataManager(predictor.cfg)
    predictions = predictor([item.impath for item in manager.dataset.test])
    record = json.loads((trained / "results.json").read_text())
    found = [TOY_CLASSES.index(prediction.ranked(1)[0][0]) for prediction in predictions]
    right = sum(label == item.label for label, item in zip(found, manager.dataset.test, strict=True))
    assert (len(predictions), right) == (record["total"], record["correct"])
    logits = torch.cat([predictor.model(batch["img"]) for batch in manager.test_loader])
    expected = logits.softmax(dim=-1)
    given = torch.tensor([[p for _, p in prediction.probabilities] for prediction in predictions])
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-6)
    assert [name for name, _ in predictions[0].probabilities] == TOY_CLASSES


def test_batches_do_not_change_predictions(
    trained: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(trained)
    whole = predictor(pictures[:7])
    monkeypatch.setattr(predict, "BATCH", 3)
    for one, other in zip(whole, predictor(pictures[:7]), strict=True):
        assert one.path == other.path
        values = [torch.tensor([p for _, p in found.probabilities]) for found in (one, other)]
        torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-6)


def test_formats_hold_the_same_numbers(
    trained: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--model-dir", str(trained), "--topk", "2", *pictures[:3]]
    outputs = {}
    for style in ("text", "json", "csv"):
        capsys.readouterr()
        assert predict.main([*call, "--format", style]) == 0
        outputs[style] = capsys.readouterr().out
    content = json.loads(outputs["json"])
    assert [entry["path"] for entry in content] == pictures[:3]
    first = content[0]["predictions"]
    assert len(first) == 2
    assert first[0]["probability"] >= first[1]["probability"] > 0
    rows = list(csv.DictReader(io.StringIO(outputs["csv"])))
    assert [(row["path"], row["rank"], row["class"]) for row in rows[:2]] == [
        (pictures[0], str(rank), entry["class"]) for rank, entry in enumerate(first, start=1)
    ]
    assert float(rows[0]["probability"]) == pytest.approx(first[0]["probability"], abs=1e-6)
    shown = ", ".join(f"{entry['class']} {100 * entry['probability']:.1f}%" for entry in first)
    assert outputs["text"].splitlines()[0] == f"{pictures[0]}: {shown}"


def test_a_folder_means_its_pictures_and_the_file_itself_is_a_run(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b.png", "deeper/a.jpg", ".hidden.png", ".cache/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    file = trained / "adapter_learner" / "adapter.safetensors"
    assert predict.main(["--model-dir", str(file), str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        str(tmp_path / "b.png"),
        str(tmp_path / "deeper" / "a.jpg"),
    ]


def test_unreadable_pictures_are_named_and_the_others_classified(
    trained: Path, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also grey ones of 16 bits, which would turn white."""
    bad, deep, fits = (str(tmp_path / name) for name in ("broken.jpg", "deep.png", "fits.png"))
    Path(bad).write_bytes(b"\xff\xd8\xff\xe0")
    Image.new("I;16", (20, 20), 60000).save(deep)
    Image.new("I;16", (20, 20), 200).save(fits)
    assert predict.main(["--model-dir", str(trained), pictures[0], bad, deep, fits]) == 1
    said = capsys.readouterr()
    assert [line.split(": ")[0] for line in said.out.splitlines()] == [pictures[0], fits]
    assert f'The image "{bad}" cannot be read' in said.err
    assert f'The image "{deep}" cannot be used (grey values from 60000 to 60000 do not fit' in said.err
    with pytest.raises(OSError, match="broken.jpg"):
        Predictor(trained)([bad])


@pytest.mark.parametrize("style", ["text", "json", "csv"])
def test_any_file_name_can_be_printed_anywhere(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [predict.Prediction("a/\udcff é.png", [("größe", 1.0)])]
    for encoding in ("utf-8", "ascii"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        monkeypatch.setattr(sys, "stdout", stream)
        make_streams_usable()
        predict.show(found, 1, style)
        stream.flush()
        text = stream.buffer.getvalue().decode(encoding)
        assert "udcff" in text
        if style == "json":
            assert json.loads(text)[0]["path"] == found[0].path


@pytest.mark.parametrize("closed", ["stdout", "reader"])
def test_nobody_listening_is_no_error(closed: str, trained: Path, pictures: list[str]) -> None:
    program = [sys.executable, predict.__file__, "--model-dir", str(trained), pictures[0]]
    if closed == "stdout":
        program = ["sh", "-c", 'exec "$@" >&-', "sh", *program]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(program, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_zero_shot_needs_only_class_names(
    trained: Path, tiny_clip_path: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["a red_bus", "snow"]
    found = Predictor(classes=names, backbone=str(tiny_clip_path), quick_gelu=True)(pictures[:2])
    assert [name for name, _ in found[0].probabilities] == names
    assert sum(p for _, p in found[0].probabilities) == pytest.approx(1, abs=1e-5)
    call = [*pictures[:2], "--backbone", str(tiny_clip_path), "--template", "{} texture.", "--format", "json"]
    assert predict.main([*call, "--quick-gelu", "--classes", *names]) == 0
    other = json.loads(capsys.readouterr().out)[0]["predictions"]
    assert {entry["class"] for entry in other} == set(names)
    assert dict(found[0].probabilities)[names[0]] not in [entry["probability"] for entry in other]
    adapted = Predictor(trained, classes=names)(pictures[:2])
    assert [name for name, _ in adapted[0].probabilities] == names
    assert adapted != found


def test_pictures_are_turned_as_in_training_unless_told(trained: Path, tmp_path: Path) -> None:
    lying = str(turned(tmp_path / "lying.jpg"))
    with Image.open(lying) as image:
        image.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "standing.png")
        image.convert("RGB").save(tmp_path / "flat.png")
    paths = [lying, str(tmp_path / "standing.png"), str(tmp_path / "flat.png")]

    def same(one: list, other: list) -> bool:
        return [p for _, p in one] == pytest.approx([p for _, p in other], abs=1e-5)

    as_stored = [found.probabilities for found in Predictor(trained)(paths)]
    assert same(as_stored[0], as_stored[2])
    upright = [found.probabilities for found in Predictor(trained, upright=True)(paths)]
    assert same(upright[0], upright[1])
    assert not same(upright[0], as_stored[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["PICTURE"], "give --model-dir, --classes or both"),
        (["nowhere.jpg", "--classes", "a"], 'no picture or folder "nowhere.jpg"'),
        (["--model-dir", "EMPTY", "PICTURE"], "holds no adapter.safetensors"),
        (["EMPTY", "--classes", "a"], "holds no pictures"),
        (["--template", "a {}.", "--model-dir", "EMPTY", "PICTURE"], "goes with --classes"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    message: str,
    pictures: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = {"PICTURE": pictures[0], "EMPTY": str(tmp_path)}
    assert predict.main([words.get(word, word) for word in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_scores_that_are_not_finite_are_an_error_and_no_percentage(
    trained: Path,
    pictures: list[str],
    tiny_clip_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = torch.load(tiny_clip_path, weights_only=True)
    weights["logit_scale"] = torch.tensor(1000.0)
    torch.save(weights, tmp_path / "loud.pt")
    zero_shot = ["--backbone", str(tmp_path / "loud.pt"), "--quick-gelu", "--classes", "cat", "dog"]
    exported = trained / "adapter_learner" / "adapter.safetensors"
    with safe_open(exported, framework="pt") as file:
        metadata = file.metadata()
    tensors = {name: torch.full_like(tensor, 1e30) for name, tensor in load_file(exported).items()}
    save_file(tensors, tmp_path / "loud.safetensors", metadata)
    for flags in (zero_shot, ["--model-dir", str(tmp_path / "loud.safetensors")]):
        assert predict.main([*pictures[:2], *flags]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "error: the scores of 2 of 2 pictures are infinite or NaN; check the weights" in err
        assert err.count("\n") == 1


def test_escape_sequences_in_names_never_reach_the_terminal_raw(
    trained: Path, pictures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]0;x\x07\x9b31m\x7f\u202e"
    picture = tmp_path / f"{evil}.png"
    picture.write_bytes(Path(pictures[0]).read_bytes())
    broken = tmp_path / f"{evil}broken.png"
    broken.write_text("no picture")
    call = ["--model-dir", str(trained), str(picture), str(broken)]
    for style in ("text", "json", "csv"):
        capsys.readouterr()
        assert predict.main([*call, "--format", style, "--classes", f"cat{evil}", "dog"]) == 1
        out, err = capsys.readouterr()
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", (out + err).replace("\r\n", "\n"))
        assert r"\x1b]0;x\x07\x9b31m\x7f\u202ebroken.png" in err
        if style == "json":
            (found,) = json.loads(out)
            assert found["path"] == str(picture)
            assert {entry["class"] for entry in found["predictions"]} == {f"cat{evil}", "dog"}
        else:
            assert r"\x1b]0;x\x07\x9b31m\x7f\u202e" in out
    assert predict.main([str(tmp_path / f"missing{evil}")]) == 2
    assert r"missing\x1b]0;x\x07" in capsys.readouterr().err
