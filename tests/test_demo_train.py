"""The demo end to end, cut down: a short training on few pictures beats its zero-shot CLIP clearly."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import clip
import train
from demo import make_data, world
from tests.conftest import ROOT, run_main
from tests.test_reproduce_jobs import script_calls

TEST_IMAGES = 15  # a class: 300 a half, one standard error is about 3 points
SHORT = ("OPTIM.MAX_EPOCH", "3", "TRAINER.HeBA.PREC", "fp32")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data root with all 40 classes of the few-shot set, but no more pictures than needed."""
    folder = tmp_path_factory.mktemp("demo")
    images = {"train": 16, "val": 1, "test": TEST_IMAGES}
    make_data.make("demo", replace(make_data.DATA_SETS["demo"], images=images), folder)
    return folder


def zero_shot(root: Path) -> dict[str, float]:
    """Accuracies in percent of the demo's CLIP, by CLIP's plain interface."""
    model, preprocess = clip.load("Demo-ViT/8", device="cpu")
    split = json.loads((root / "demo" / "split_zhou_Demo.json").read_text())["test"]
    names = [world.class_name(triple) for triple in world.CLASSES]
    accuracies = {}
    for half, start in (("base", 0), ("new", 20)):
        rows = [(path, label - start) for path, label, _ in split if start <= label < start + 20]
        images = torch.stack([preprocess(Image.open(root / "demo" / "images" / path)) for path, _ in rows])
        texts = clip.tokenize([f"a photo of a {name}." for name in names[start : start + 20]])
        with torch.no_grad():
            text = F.normalize(model.encode_text(texts), dim=-1)
            predicted = (model.encode_image(images) @ text.t()).argmax(1)
        hits = predicted == torch.tensor([label for _, label in rows])
        accuracies[half] = 100 * hits.double().mean().item()
    return accuracies


def run(script: str, root: Path, *arguments: str) -> None:
    """Makes the call of train.py that a script makes."""
    places = {"DATA": str(root), "OUTPUT": str(root / "output")}
    (call,) = script_calls(root, script, "demo", *arguments, **places)
    done = run_main(train.main, call)
    assert done.returncode == 0, done.stderr


def accuracy(root: Path, part: str) -> float:
    folder = root / "output" / "base2new" / part / "demo" / "shots_16" / "HeBA" / "demo" / "seed1"
    return json.loads((folder / "results.json").read_text())["accuracy"]


def test_heba_beats_zero_shot_on_base_and_novel_classes(root: Path) -> None:
    before = zero_shot(root)
    assert 40 < before["base"] < 70
    assert 40 < before["new"] < 70
    run("heba/base2new_train.sh", root, "1", "demo", "--", *SHORT)
    run("heba/base2new_test.sh", root, "1", "demo", "--", *SHORT)
    assert accuracy(root, "train_base") > before["base"] + 4
    assert accuracy(root, "test_new") > before["new"] + 2


def test_the_demo_script_says_how_it_is_called() -> None:
    done = subprocess.run(["bash", str(ROOT / "scripts" / "demo.sh"), "x"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: bash ")
