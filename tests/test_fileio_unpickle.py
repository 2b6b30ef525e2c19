"""Whatever a weight file holds, nothing of it is run, and nobody is told to run it."""

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import clip
from dassl.utils import load_checkpoint, load_pretrained_weights
from dassl.utils.checkpoint import read_dictionary
from fileio import file_digest
from tests.evil_files import EVIL, WRITERS, torchscript

READERS: dict[str, Callable[[str], object]] = {
    "backbone": clip.load_state_dict,
    "checkpoint": load_checkpoint,
    "resume file": read_dictionary,
    "initial weights": lambda path: load_pretrained_weights(torch.nn.Linear(2, 2), path),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", WRITERS)
def test_nothing_in_a_weight_file_is_run(
    kind: str, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    WRITERS[kind](tmp_path / "weights.pt")
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was opened as a program"))
    if kind in ("torchscript", "two directories", "tar"):  # older versions of torch run these
        monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch has opened it"))
    defaults = torch._utils._rebuild_tensor_v2.__defaults__
    with pytest.raises(ValueError, match=r"weights\.pt") as refused:
        READERS[reader]("weights.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights.pt"]
    assert torch._utils._rebuild_tensor_v2.__defaults__ == defaults
    assert "\n" not in str(refused.value)
    shown = "".join(traceback.format_exception(refused.value))  # as traceback.txt has it
    for advice in ("weights_only", "add_safe_globals", "trusted source"):
        assert advice not in shown.replace("weights_only=True", "")


def test_only_a_published_archive_is_opened_as_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torchscript(tmp_path / "mine.pt")
    digest = file_digest("mine.pt")
    with pytest.raises(ValueError, match=r"mine\.pt: is a TorchScript archive.* none of OpenAI's") as refused:
        clip.load_state_dict("mine.pt")
    assert 'safetensors.torch.save_file(torch.jit.load("mine.pt").state_dict(), "mine.safetensors")' in str(
        refused.value
    )
    Path("mine.pt").rename("archive.safetensors")
    with pytest.raises(ValueError, match=r'"archive-tensors\.safetensors"\)$'):  # not onto itself
        clip.load_state_dict("archive.safetensors")
    Path("archive.safetensors").rename("mine.pt")
    assert not Path(EVIL).exists()
    monkeypatch.setitem(clip._MODELS, "mine", f"https://localhost/{digest}/mine.pt")
    with pytest.raises(ValueError, match="no CLIP weights|holds nothing"):
        clip.load_state_dict("mine.pt")
    assert Path(EVIL).exists()  # the program runs: this is what the digest guards
