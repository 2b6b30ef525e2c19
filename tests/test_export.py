"""What a finished run leaves to others: Dassl's checkpoint, loaded strictly, and adapter.safetensors."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import train
from adapt.adapter_file import FILE_NAME, load_strictly, read_adapter, write_adapter
from adapt.prompts import ClassPrompts
from dassl.utils import load_checkpoint
from runner.folder import recorded_in_checkpoint
from runner.trained import load_adapter, trained_config
from tests.conftest import ROOT, run_main
from tests.goldens import build
from tests.test_heba_goldens import close, fill
from tests.test_train import command
from trainers.heba import HeBA


def run(arguments: list[str]) -> None:
    done = run_main(train.main, arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, toy_data: Path, toy_flags: list[str]) -> Path:
    """A finished run of two epochs, in which the best model on the validation images is deployed."""
    output = tmp_path_factory.mktemp("exported")
    run(command(toy_data, output, [*toy_flags, "OPTIM.MAX_EPOCH", "2", "TEST.FINAL_MODEL", "best_val"]))
    return output


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def exported(folder: Path) -> Path:
    return folder / "adapter_learner" / FILE_NAME


def test_the_exported_file_holds_the_deployed_weights_and_says_what_they_are(
    trained: Path, toy_data: Path, tiny_clip_path: Path
) -> None:
    best = torch.load(trained / "adapter_learner" / "model-best.pth.tar", weights_only=True)
    tensors = load_file(exported(trained))
    assert tensors.keys() == best["state_dict"].keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, best["state_dict"][name])
    with safe_open(exported(trained), framework="pt") as file:
        metadata = file.metadata()
    assert metadata["trainer"] == "HeBA"
    assert metadata["dataset"] == "Caltech101"
    assert int(metadata["epoch"]) == best["epoch"]
    assert metadata["backbone"] == str(tiny_clip_path)
    assert json.loads(metadata["classnames"])[:2] == ["ant", "ceiling_fan"]
    described = json.loads((toy_data / "descriptions" / "caltech101.json").read_text())
    assert json.loads(metadata["prompts"])[1][0] == f"a photo of a ceiling fan, {described['ceiling fan'][0]}"
    assert str(trained) not in metadata["config"]


def rewrite(path: Path, change: Callable[[dict, dict], None]) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def test_an_exported_file_needs_no_data(copy: Path, toy_data: Path) -> None:
    def move(tensors: dict, metadata: dict) -> None:
        metadata["config"] = metadata["config"].replace(str(toy_data), "/gone")

    before = read_adapter(exported(copy))
    rewrite(exported(copy), move)
    model, cfg, _ = load_adapter(exported(copy))
    assert cfg.DATASET.ROOT == "/gone"
    assert model.prompts.texts == before.prompts


def drop(tensors: dict, metadata: dict) -> None:
    del tensors["text_adapter.1.att_conv.up.weight"]


def add(tensors: dict, metadata: dict) -> None:
    tensors["text_adapter.5.att_conv.up.weight"] = torch.zeros(1)


def bend(tensors: dict, metadata: dict) -> None:
    tensors["text_adapter.1.att_conv.up.weight"] = torch.zeros(2, 3)


def integers(tensors: dict, metadata: dict) -> None:
    tensors["text_adapter.1.att_conv.up.weight"] = tensors["text_adapter.1.att_conv.up.weight"].int()


def not_a_number(tensors: dict, metadata: dict) -> None:
    tensors["text_adapter.1.att_conv.up.weight"][3, 4] = float("nan")


def rename(metadata: dict, trainer: str) -> None:
    metadata["config"] = metadata["config"].replace("NAME: HeBA", f"NAME: {trainer}")


CHANGES = [
    (drop, "missing text_adapter.1.att_conv.up.weight"),
    (add, "unexpected text_adapter.5.att_conv.up.weight"),
    (bend, r"of another shape text_adapter.1.att_conv.up.weight \(2, 3\) instead of \(128, 32\)"),
    (integers, "of another kind text_adapter.1.att_conv.up.weight torch.int32 instead of torch.float32"),
    (
        not_a_number,
        "holds NaN or infinity, in 1 of its tensors, the first is text_adapter.1.att_conv.up.weight",
    ),
    (lambda tensors, metadata: metadata.update(format="pt"), "is no adapter of this project"),
    (lambda tensors, metadata: metadata.update(format_version="99"), "format version 99"),
    (lambda tensors, metadata: metadata.pop("prompts"), "metadata .* are damaged .*prompts"),
    (lambda tensors, metadata: metadata.update(epoch="{"), "metadata .* are damaged"),
    (lambda tensors, metadata: metadata.update(epoch='"x"'), "metadata .* are damaged .*epoch"),
    (lambda tensors, metadata: metadata.update(classnames="5"), "metadata .* are damaged .*classnames"),
    (lambda tensors, metadata: metadata.update(classnames='["a"]'), "metadata .* are damaged .*prompts"),
    (lambda tensors, metadata: metadata.update(prompts="[[]]"), "metadata .* are damaged .*prompts"),
    (lambda tensors, metadata: metadata.update(prompts='["a", 5]'), "metadata .* are damaged .*prompts"),
    (lambda tensors, metadata: metadata.pop("backbone"), "metadata .* are damaged .*no backbone"),
    (lambda tensors, metadata: metadata.update(config="[1]"), "metadata .* are damaged"),
    (lambda tensors, metadata: rename(metadata, "ZeroshotCLIP"), 'trainer "ZeroshotCLIP", which has no'),
    (lambda tensors, metadata: rename(metadata, "CoOpX"), 'trainer "CoOpX", which is none here'),
    (lambda tensors, metadata: metadata.update(config=": ["), "metadata .* are damaged"),
    (lambda tensors, metadata: metadata.update(config="TRAINER:\n  HeBA:\n    X: 1"), "key TRAINER.HeBA.X"),
    (
        lambda tensors, metadata: metadata.update(config="INPUT: {PIXEL_MEAN: [.nan, 0, 0]}"),
        "PIXEL_MEAN is nan",
    ),
    (lambda tensors, metadata: metadata.update(backbone_sha256="0" * 64), "trained on other weights"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_an_exported_file_that_does_not_fit_is_one_line(copy: Path, change: Callable, said: str) -> None:
    rewrite(exported(copy), change)
    with pytest.raises(ValueError, match=said) as refused:
        load_adapter(exported(copy))
    assert FILE_NAME in str(refused.value)
    assert "\n" not in str(refused.value)


def test_settings_that_only_another_dassl_has_do_not_matter(copy: Path) -> None:
    def as_the_original(tensors: dict, metadata: dict) -> None:
        settings = yaml.safe_load(metadata["config"])
        settings["DATASET"]["CIFAR_C_LEVEL"] = 1
        settings["MODEL"]["HEAD"]["HIDDEN_LAYERS"] = []
        del settings["TRAIN"]["RESUME"]
        metadata["config"] = yaml.safe_dump(settings)

    before = trained_config(read_adapter(exported(copy)))
    rewrite(exported(copy), as_the_original)
    assert trained_config(read_adapter(exported(copy))) == before


REWRITE = """
import sys
from dataclasses import replace
from pathlib import Path
from adapt.adapter_file import read_adapter, write_adapter
there, here = map(Path, sys.argv[1:])
write_adapter(replace(read_adapter(there), path=here))
"""


def test_equal_runs_write_equal_files_that_others_may_read(trained: Path, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        # a process of its own: some orders are drawn once in a process
        command = [sys.executable, "-c", REWRITE, str(exported(trained)), str(tmp_path / "one")]
        subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"PYTHONHASHSEED": "random"})
    finally:
        os.umask(before)
    assert (tmp_path / "one").read_bytes() == exported(trained).read_bytes()
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o644
    with safe_open(tmp_path / "one", framework="pt") as file, safe_open(exported(trained), "pt") as first:
        assert file.metadata() == first.metadata()


@pytest.mark.parametrize("content", [b"", b"<html>quota exceeded</html>", b"\x10" + b"\0" * 7 + b"{}"])
def test_something_else_than_an_exported_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{FILE_NAME}.* cut off or no safetensors file"):
        read_adapter(tmp_path / FILE_NAME)
    with pytest.raises(FileNotFoundError, match="a finished training run leaves one"):
        read_adapter(tmp_path / "gone")


def test_a_failing_export_leaves_no_half_file(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    adapter = read_adapter(exported(trained))
    monkeypatch.setattr(os, "fsync", fail)
    path = tmp_path / FILE_NAME
    with pytest.raises(OSError, match=rf'cannot write ".*{FILE_NAME}": disk full\?'):
        write_adapter(replace(adapter, path=path))
    assert not list(tmp_path.iterdir())


# Dassl's checkpoint, through train.py
def test_a_checkpoint_that_does_not_fit_or_is_damaged_is_one_line(
    copy: Path, toy_data: Path, toy_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "adapter_learner" / "model.pth.tar-2"
    checkpoint = torch.load(path, weights_only=True)
    drop(checkpoint["state_dict"], {})
    torch.save(checkpoint, path)
    flags = ("--eval-only", "--model-dir", str(copy), "--load-epoch", "2")
    for said in (CHANGES[0][1], "cut off or not a checkpoint"):
        assert train.main(command(toy_data, tmp_path / "out", toy_flags, *flags)) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert "model.pth.tar-2" in line
        assert said in line
        assert not (tmp_path / "out" / "results.json").exists()
        path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("text", ["::: [", "a word", 5])
def test_a_checkpoint_whose_configuration_is_none_is_one_line(tmp_path: Path, text: object) -> None:
    path = tmp_path / "adapter_learner" / "model.pth.tar-5"
    path.parent.mkdir()
    torch.save({"state_dict": {}, "epoch": 5, "cfg": text}, path)
    args = train.parse_args(["--eval-only", "--model-dir", str(tmp_path), "--load-epoch", "5"])
    with pytest.raises(ValueError, match=r'the configuration in ".*model.pth.tar-5" cannot be read'):
        recorded_in_checkpoint(args)


def test_a_published_checkpoint_gives_the_published_logits(tmp_path: Path) -> None:
    """Dassl's dictionary as the published code saves it, with its buffers, momentum and a NumPy number."""
    numbers = dict(np.load(ROOT / "tests" / "data" / "heba_tiny.npz"))
    tokens = torch.from_numpy(numbers["tk_prompts"])
    model = build(HeBA, prompts=ClassPrompts(tokens.flatten(0, 1), torch.full((12,), 20)), ADAPTER_END=4)
    learner = model.adapter_learner
    fill(learner)
    weights = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    published = weights | {"tk_prompts": tokens}
    momentum = {
        "state": {0: {"momentum_buffer": torch.zeros(1)}},
        "param_groups": [{"lr": 0.0, "params": [0]}],
    }
    state = {"state_dict": published, "epoch": 30, "optimizer": momentum, "scheduler": {"last_epoch": 30}}
    path = tmp_path / "model.pth.tar-30"
    torch.save(state | {"val_result": np.float64(81.35)}, path)
    for weight in learner.parameters():
        weight.data.zero_()
    load_strictly(learner, model.method.own_tensors(load_checkpoint(str(path))["state_dict"]), path)
    for case, scale in (("eval_base", 0.025), ("eval_novel", 0.010)):
        learner.set_scale(scale)
        with torch.no_grad():
            close(model(torch.from_numpy(numbers["images"])), numbers[f"{case}/logits"])
