"""Every file format gives the same model; what cannot be loaded is one clear error."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import clip
from clip.model import CLIP, build_model
from clip.weights import quick_gelu_by_name
from fileio import file_digest

SHAPE = dict(
    embed_dim=16,
    image_resolution=16,
    vision_layers=2,
    vision_width=64,
    vision_patch_size=8,
    context_length=77,
    vocab_size=49408,
    transformer_width=64,
    transformer_heads=1,
    transformer_layers=2,
)
EXTRAS = {
    "input_resolution": torch.tensor(16),
    "context_length": torch.tensor(77),
    "vocab_size": torch.tensor(49408),
}
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    model = CLIP(**SHAPE).eval()
    return {name: tensor.detach() for name, tensor in build_model(model.state_dict()).state_dict().items()}


def custom_text(state: State, linear: bool = False) -> State:
    """Rename to the layout of open_clip's CustomTextCLIP."""
    ours = {n if n.startswith("visual.") or n == "logit_scale" else f"text.{n}": t for n, t in state.items()}
    if linear:
        ours["text.text_projection.weight"] = ours.pop("text.text_projection").t().contiguous()
    return ours | {"text.attn_mask": torch.zeros(77, 77)}


class Holder(torch.nn.Module):
    """A module tree that carries given tensors under given dotted names, to be written as TorchScript."""

    def __init__(self, tensors: State) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            first, _, rest = name.partition(".")
            if not rest:
                self.register_buffer(first, tensor)
            elif first not in self._modules:
                inner = {n.partition(".")[2]: t for n, t in tensors.items() if n.startswith(first + ".")}
                self.add_module(first, Holder(inner))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def save_torchscript(state: State, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.trace(Holder(state | EXTRAS), torch.zeros(1)).save(path)


WRITERS: dict[str, Callable[[State, Path], None]] = {
    "torchscript": save_torchscript,
    "plain": torch.save,
    "old format": lambda s, p: torch.save(s, p, _use_new_zipfile_serialization=False),
    "checkpoint": lambda s, p: torch.save(
        {"epoch": 3, "name": "x", "state_dict": s, "optimizer": {"lr": 1.0}}, p
    ),
    "module prefix": lambda s, p: torch.save({"state_dict": {f"module.{n}": t for n, t in s.items()}}, p),
    "openai extras": lambda s, p: torch.save(s | EXTRAS, p),
    "safetensors": save_file,
    "open_clip with mask": lambda s, p: torch.save(s | {"attn_mask": torch.zeros(77, 77)}, p),
    "open_clip custom text": lambda s, p: torch.save(custom_text(s), p),
    "open_clip linear projection": lambda s, p: save_file(custom_text(s, linear=True), p),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_tensors(
    kind: str, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "home-made.bin"
    WRITERS[kind](state, path)
    # in the table of models: other TorchScript is not read
    monkeypatch.setitem(clip._MODELS, "made", f"https://localhost/{file_digest(path)}/{path.name}")
    weights = clip.load_state_dict(path)
    assert weights.state_dict.keys() == state.keys()
    for name, tensor in weights.state_dict.items():
        assert torch.equal(tensor, state[name]), name
    assert weights.source == str(path)
    assert weights.quick_gelu is (True if kind in ("torchscript", "openai extras") else None)
    assert clip.input_resolution(path) == 16


@pytest.mark.parametrize("custom", [False, True])
@torch.no_grad()
def test_checkpoint_saved_by_open_clip_gives_its_features(custom: bool, tmp_path: Path):
    import open_clip.model as theirs

    vision = theirs.CLIPVisionCfg(layers=2, width=64, patch_size=8, image_size=16)
    text = theirs.CLIPTextCfg(width=64, heads=1, layers=2)
    torch.manual_seed(0)
    reference = (theirs.CustomTextCLIP if custom else theirs.CLIP)(16, vision, text).eval()
    path = tmp_path / "ViT-tiny-laion2b.pt"
    torch.save({"state_dict": reference.state_dict()}, path)
    model, _ = clip.load(path, device="cpu")
    tokens, images = clip.tokenize(["a cat", "two dogs"]), torch.randn(2, 3, 16, 16)
    half = dict(rtol=2e-2, atol=2e-2)  # build_model rounds the weights to float16
    torch.testing.assert_close(model.encode_text(tokens), reference.encode_text(tokens), **half)
    torch.testing.assert_close(model.encode_image(images), reference.encode_image(images), **half)
    exact = CLIP(**SHAPE, quick_gelu=False)
    exact.load_state_dict(clip.load_state_dict(path).state_dict)
    torch.testing.assert_close(exact.encode_text(tokens), reference.encode_text(tokens), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        exact.encode_image(images), reference.encode_image(images), rtol=1e-5, atol=1e-5
    )


def test_load_gives_float32_on_the_cpu_and_the_preprocessing(state: State, tmp_path: Path):
    from open_clip.transform import image_transform

    path = tmp_path / "ViT-B-16.pt"
    torch.save(state, path)
    model, preprocess = clip.load(str(path), device="cpu")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    noise = torch.randint(0, 256, (37, 53, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(noise.numpy())
    theirs = image_transform(16, is_train=False, mean=clip.clip.PIXEL_MEAN, std=clip.clip.PIXEL_STD)
    assert torch.equal(preprocess(image), theirs(image))
    assert model.encode_image(preprocess(image.convert("L"))[None]).shape == (1, 16)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_load_gives_float16_on_the_gpu(state: State, tmp_path: Path):
    torch.save(state, tmp_path / "ViT-B-16.pt")
    model, _ = clip.load(tmp_path / "ViT-B-16.pt")
    assert model.dtype == torch.float16
    assert model.logit_scale.is_cuda


# Which activation
@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("ViT-B-16.pt", True),
        ("ViT-L-14-336px.pt", True),
        ("rn50-quickgelu-yfcc15m-455df137.pt", True),
        ("vit_b_32-quickgelu-laion400m_e32-46683a32.pt", True),
        ("vit_b_16-laion400m_e32-55e67d44.pt", False),
        ("vit_b_32-laion2b_e16-af8dbd0c.pth", False),
        ("b16_fullcc2.5b.pt", True),
        ("models--laion--CLIP-ViT-B-16-laion2B-s34B-b88K/snapshots/0a/open_clip_model.safetensors", False),
        ("models--apple--DFN2B-CLIP-ViT-L-14/snapshots/0a/open_clip_pytorch_model.bin", True),
        ("models--apple--DFN2B-CLIP-ViT-L-14-39B/snapshots/0a/open_clip_pytorch_model.bin", False),
        ("models--timm--vit_base_patch16_clip_224.openai/snapshots/0a/open_clip_model.safetensors", True),
        ("laion2b/some.pt", None),
        ("tiny_clip.pt", None),
        ("my-laion400m.pt", None),
    ],
)
def test_published_names_tell_the_activation(name: str, answer: bool | None):
    assert quick_gelu_by_name(Path("/cache") / name) is answer


def test_names_never_contradict_open_clips_table():
    from open_clip import pretrained

    if "quick_gelu" not in str(pretrained._PRETRAINED):
        pytest.skip("this open_clip does not list activations in its table")
    answers = 0
    for model, tags in pretrained._PRETRAINED.items():
        for tag, entry in tags.items():
            if not model.startswith(("ViT-", "RN")):
                continue
            hub = (
                "models--" + entry.get("hf_hub", "").strip("/").replace("/", "--") + "/x/open_clip_model.bin"
            )
            for name in (entry.get("url", "").rpartition("/")[2], hub):
                answer = quick_gelu_by_name(Path("/cache") / name)
                assert answer in (None, entry.get("quick_gelu", False)), (model, tag, name)
                answers += answer is not None
    assert answers > 80


def test_unknown_activation_is_an_error_unless_told(state: State, tmp_path: Path):
    path = tmp_path / "tiny_clip.pt"
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"tiny_clip\.pt.*pass quick_gelu=True"):
        clip.load(path, device="cpu")
    sigmoid, _ = clip.load(path, device="cpu", quick_gelu=True)
    exact, _ = clip.load(path, device="cpu", quick_gelu=False)
    assert isinstance(sigmoid.visual.transformer.resblocks[0].mlp.gelu, clip.transformer.QuickGELU)
    assert isinstance(exact.transformer.resblocks[0].mlp.gelu, torch.nn.GELU)
    assert not torch.equal(sigmoid.encode_text(clip.tokenize("a")), exact.encode_text(clip.tokenize("a")))


@pytest.mark.parametrize(("entry", "answer"), [("true", True), ("False", False)])
def test_safetensors_metadata_tells_the_activation(entry: str, answer: bool, state: State, tmp_path: Path):
    save_file(state, tmp_path / "vit-laion2b-quickgelu.safetensors", metadata={"quick_gelu": entry})
    weights = clip.load_state_dict(tmp_path / "vit-laion2b-quickgelu.safetensors")
    assert weights.quick_gelu is answer
    assert weights.decide_quick_gelu(not answer) is not answer


def test_senseless_metadata_is_an_error(state: State, tmp_path: Path):
    save_file(state, tmp_path / "x.safetensors", metadata={"quick_gelu": "maybe"})
    with pytest.raises(ValueError, match=r"x\.safetensors.*maybe"):
        clip.load_state_dict(tmp_path / "x.safetensors")


# What cannot be loaded
@pytest.mark.parametrize("kind", ["torchscript", "plain", "old format", "safetensors"])
@pytest.mark.parametrize("left", [0.0, 0.0001, 0.3, 0.999])
def test_cut_off_files_are_errors_that_name_the_file(kind: str, left: float, state: State, tmp_path: Path):
    path = tmp_path / "cut.pt"
    WRITERS[kind](state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    with pytest.raises(ValueError, match=r"cut\.pt"):
        clip.load_state_dict(path)


def test_build_model_does_not_change_what_it_is_given(state: State):
    given = dict(state) | EXTRAS
    build_model(given)
    assert given.keys() == (state | EXTRAS).keys()


# The table of named models
def test_table_agrees_with_open_clips():
    from open_clip import pretrained

    theirs = {
        entry["url"] for tags in pretrained._PRETRAINED.values() for t, entry in tags.items() if t == "openai"
    }
    assert {clip._MODELS[name] for name in clip.available_models()} == theirs
    assert set(clip._MODELS) - set(clip.available_models()) == {"Demo-ViT/8"}


@pytest.mark.parametrize(
    ("name", "pixels"),
    [("RN50", 224), ("RN50x4", 288), ("RN50x64", 448), ("ViT-B/16", 224), ("ViT-L/14@336px", 336)],
)
def test_resolution_of_named_models_needs_no_file(name: str, pixels: int, tmp_path: Path):
    assert clip.input_resolution(name, download_root=tmp_path / "absent") == pixels
    assert not (tmp_path / "absent").exists()


def test_resolution_follows_a_changed_file(state: State, tmp_path: Path):
    path = tmp_path / "tiny.pt"
    torch.save(state, path)
    assert clip.input_resolution(path) == 16
    torch.save(CLIP(**SHAPE | dict(image_resolution=24)).state_dict(), path)
    assert clip.input_resolution(str(path)) == 24


def test_import_is_light():
    """What is slow to import, and the package that is only there for its vocabulary, wait until needed."""
    code = "import sys, clip; print([m for m in ('torchvision', 'open_clip') if m in sys.modules])"
    root = Path(clip.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_float32_weights_stay_exact_on_the_cpu(tmp_path: Path) -> None:
    """OpenAI's files are float16; open_clip's are not, and lose nothing where everything runs in float32."""
    model = CLIP(64, 32, 2, 64, 16, 77, 49408, 64, 1, 2)
    torch.save(model.state_dict(), tmp_path / "exact.pt")
    loaded, _ = clip.load(str(tmp_path / "exact.pt"), device="cpu", quick_gelu=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
