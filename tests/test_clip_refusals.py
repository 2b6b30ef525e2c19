"""What is no CLIP that can be loaded is refused with one clear line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import clip

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state(tiny_clip_path: Path) -> State:
    return torch.load(tiny_clip_path, weights_only=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>not found</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"PK\x03\x04 and then nothing", "damaged or cut off"),
        (b"\x80\x02garbage" * 9, "damaged"),
        (bytes(range(256)), "not a weight file"),
    ],
)
def test_garbage_files_are_errors_that_name_the_file(content: bytes, message: str, tmp_path: Path):
    path = tmp_path / "garbage.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"garbage\.pt.*{message}") as caught:
        clip.load(path, device="cpu", quick_gelu=True)
    assert "\n" not in str(caught.value)


def edit(change: Callable[[State], object]) -> Callable[[State], State]:
    def edited(state: State) -> State:
        state = dict(state)
        change(state)
        return state

    return edited


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit(lambda s: s.pop("visual.ln_pre.bias")), r"missing: visual\.ln_pre\.bias$"),
        (edit(lambda s: s.pop("text_projection")), '"text_projection" is missing'),
        (edit(lambda s: s.pop("positional_embedding")), '"positional_embedding" is missing'),
        (edit(lambda s: s.pop("visual.proj")), r'neither "visual\.proj"'),
        (edit(lambda s: s.pop("visual.conv1.weight")), r'"visual\.conv1\.weight" is missing'),
        (edit(lambda s: s.update(extra=torch.ones(1))), "unexpected: extra$"),
        (edit(lambda s: s.update(logit_bias=torch.ones(()))), "unexpected: logit_bias"),
        (
            edit(lambda s: s.update({"ln_final.weight": torch.ones(3)})),
            r"ln_final\.weight \(3,\) instead of \(128,\)",
        ),
        (edit(lambda s: s.update({"visual.proj": torch.ones(128, 9)})), r"visual\.proj \(128, 9\) instead"),
        (
            edit(lambda s: s.update({"ln_final.weight": torch.ones(128, dtype=torch.int8)})),
            r"of another kind: ln_final\.weight torch\.int8 instead of torch\.float\d\d$",
        ),
        (edit(lambda s: s.update({"visual.conv1.weight": torch.ones(64)})), "not 4 dimensions"),
        (edit(lambda s: s.update({"visual.positional_embedding": torch.ones(7, 128)})), "7 image positions"),
        (edit(lambda s: s.update({"token_embedding.weight": torch.ones(50000, 128)})), "50000 token ids"),
        (edit(lambda s: s.update(text_projection=torch.ones(96, 64))), "text tower of width 96"),
        (
            edit(lambda s: s.update({"visual.conv1.weight": torch.ones(96, 3, 8, 8)})),
            "image tower of width 96",
        ),
        (
            edit(lambda s: s.update({"visual.conv1.weight": torch.ones(1280, 3, 14, 14)})),
            "ViT-H has heads of 80",
        ),
        (lambda s: {"fc.weight": torch.ones(2, 2)}, r"no CLIP weights.*fc\.weight"),
        (lambda s: {}, "holds nothing"),
        (lambda s: {"vision_model.x": torch.ones(1), "text_model.x": torch.ones(1)}, "Hugging Face"),
        (edit(lambda s: s.update(note="text")), '"note" is a str'),
        (lambda s: [torch.ones(1)], "holds a list"),
    ],
)
def test_wrong_tensors_are_one_line_that_names_file_and_tensor(
    change, message: str, state: State, tmp_path: Path
):
    path = tmp_path / "wrong.pt"
    torch.save(change(state), path)
    with pytest.raises(ValueError, match=message) as caught:
        clip.load(path, device="cpu", quick_gelu=True)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickled_model_is_refused(tmp_path: Path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(ValueError, match=r"whole\.pt.*holds more than tensors.*state_dict"):
        clip.load_state_dict(tmp_path / "whole.pt")


def test_unknown_names_are_errors_that_list_the_known_ones(tmp_path: Path):
    for function in (clip.load, clip.load_state_dict, clip.input_resolution):
        with pytest.raises(
            ValueError, match=r'"ViT-B/61" is neither a CLIP model .*ViT-B/16.* a path to weights'
        ):
            function("ViT-B/61")
    with pytest.raises(ValueError, match="is a folder"):
        clip.load_state_dict(tmp_path)
    with pytest.raises(ValueError, match="jit=True is not supported"):
        clip.load("ViT-B/16", jit=True)
