"""Weight files that leave out rows of the text tower's tables, and the one that comes with the repository."""

import json
import re
from pathlib import Path

import pytest
import torch

import clip
from clip import download
from clip.clip import load_state_dict
from clip.compact import expand, filler, token_filler, unlearned_tokens
from clip.model import CLIP, build_model
from tests.conftest import ROOT

DEMO = "Demo-ViT/8"


@pytest.fixture(scope="module")
def demo_clip() -> CLIP:
    return clip.load(DEMO, device="cpu")[0]


def small_tables(ids: list[int], positions: int = 3) -> dict[str, torch.Tensor]:
    return {
        "token_ids": torch.tensor(ids),
        "token_embedding.weight": torch.ones(len(ids), 4, dtype=torch.float16),
        "positional_embedding": torch.ones(positions, 4, dtype=torch.float16),
    }


def test_the_formula_gives_the_same_numbers_everywhere() -> None:
    """Rows of other words are part of the demo's weights: these numbers must never change."""
    rows = token_filler(torch.tensor([0, 1, 49405]), 4)
    assert rows.dtype == torch.float32
    expected = torch.tensor(GOLDEN_ROWS)
    assert torch.equal((rows / (0.02 / (4 * (256**2 - 1) / 12) ** 0.5)).round().int(), expected.int())
    assert torch.equal(token_filler(torch.tensor([49405]), 4), rows[2:])


# The sums of four bytes, less their mean of 510.
GOLDEN_ROWS = [[-510, -230, 57, 174], [-140, -283, 238, 168], [131, -65, -33, 196]]


def test_filled_rows_have_clips_usual_scale_and_no_two_are_alike() -> None:
    rows = token_filler(torch.arange(49408), 128)
    assert rows.mean().abs() < 1e-4
    assert rows.std() == pytest.approx(0.02, rel=0.01)
    similar = torch.nn.functional.normalize(rows[::25], dim=-1)
    cosines = (similar @ similar.t()).fill_diagonal_(0)
    assert cosines.abs().max() < 0.6
    assert filler(torch.arange(77), 128, 0.01, 1 << 31).std() == pytest.approx(0.01, rel=0.03)


def test_stored_rows_keep_their_values_and_the_others_are_filled() -> None:
    whole = expand(small_tables([5, 49407]), "x")
    assert set(whole) == {"token_embedding.weight", "positional_embedding"}
    tokens, positions = whole["token_embedding.weight"], whole["positional_embedding"]
    assert tokens.shape == (49408, 4)
    assert positions.shape == (77, 4)
    assert tokens.dtype == positions.dtype == torch.float16
    assert (tokens[[5, 49407]] == 1).all()
    assert (positions[:3] == 1).all()
    assert torch.equal(tokens[6:9], token_filler(torch.arange(6, 9), 4).half())
    assert positions[3:].abs().max() < 0.05


@pytest.mark.parametrize(
    "change",
    [
        {"token_ids": torch.tensor([5])},
        {"token_ids": torch.tensor([5, 49408])},
        {"token_ids": torch.tensor([-1, 5])},
        {"positional_embedding": torch.ones(78, 4)},
    ],
)
def test_tables_that_do_not_fit_are_refused(change: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"some\.pt: token_ids .* do not fit"):
        expand(small_tables([5, 9]) | change, "some.pt")


def test_a_missing_table_is_named() -> None:
    tables = small_tables([5, 9])
    del tables["positional_embedding"]
    with pytest.raises(ValueError, match=r"some\.pt: has token_ids but no 'positional_embedding'"):
        expand(tables, "some.pt")


def test_words_that_were_never_learned_are_named(demo_clip: CLIP, tiny_clip_path: Path) -> None:
    tokens = clip.tokenize(["a photo of a large striped red star on grass.", "a photograph of a highway"])
    assert clip.unlearned_words(demo_clip, tokens) == ["highway", "photograph"]
    assert clip.unlearned_words(demo_clip, tokens[:1]) == []
    ordinary = build_model(torch.load(tiny_clip_path, weights_only=True))
    assert len(unlearned_tokens(ordinary.token_embedding.weight, tokens)) == 0


def test_the_demos_clip_comes_by_name_without_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "fetch_file", None)  # calling it would fail
    weights = load_state_dict(DEMO)
    assert weights.quick_gelu is True
    recipe = json.loads((ROOT / "demo" / "recipe.json").read_text())
    reference = CLIP(**recipe["shape"] | {"context_length": 77}, vocab_size=49408).state_dict()
    assert {n: t.shape for n, t in weights.state_dict.items()} == {n: t.shape for n, t in reference.items()}
    assert clip.input_resolution(DEMO) == reference_resolution(reference) == 48


def reference_resolution(state: dict[str, torch.Tensor]) -> int:
    tokens, patch = state["visual.positional_embedding"].shape[0], state["visual.conv1.weight"].shape[-1]
    return round((tokens - 1) ** 0.5) * patch


def test_the_demos_weights_are_the_recorded_ones_and_small() -> None:
    recipe = json.loads((ROOT / "demo" / "recipe.json").read_text())
    path = ROOT / "demo" / recipe["weights"]
    assert path.stat().st_size <= 4 * 10**6
    assert clip._MODELS[DEMO] == f"repository:demo/{recipe['sha256']}/{recipe['weights']}"
    assert clip._download(clip._MODELS[DEMO]) == str(path)


def test_peers_way_of_loading_a_named_model_works(demo_clip: CLIP) -> None:
    """CoOp and its family take the address from the table and build from what torch.load gives."""
    path = clip._download(clip._MODELS[DEMO])
    with pytest.raises(RuntimeError):
        torch.jit.load(path, map_location="cpu")
    model = clip.build_model(torch.load(path, map_location="cpu")).float()
    for name, tensor in demo_clip.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_other_bytes_under_the_demos_name_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = clip._MODELS[DEMO]
    name = address.rsplit("/", 1)[1]
    monkeypatch.setattr(download, "__file__", str(tmp_path / "clip" / "download.py"))
    with pytest.raises(FileNotFoundError, match=r"is missing; .*git checkout"):
        load_state_dict(DEMO)
    (tmp_path / "demo").mkdir()
    damaged = bytearray((ROOT / "demo" / name).read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "demo" / name).write_bytes(damaged)
    with pytest.raises(ValueError, match=rf"{re.escape(name)}\" has SHA-256 [0-9a-f]{{64}} instead of"):
        load_state_dict(DEMO)


def test_the_demos_clip_is_not_listed_among_openais() -> None:
    assert DEMO not in clip.available_models()
    with pytest.raises(ValueError, match=DEMO):
        clip.load("no such model")
