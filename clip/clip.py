"""Loading CLIP by name or path, and tokenizing: the interface of openai/CLIP, clip/clip.py."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from clip.architecture import architecture
from clip.compact import unlearned_tokens
from clip.download import OPENAI, REPOSITORY, download
from clip.model import CLIP, build_model
from clip.simple_tokenizer import END, START, SimpleTokenizer
from clip.weights import Weights, read_weights
from fileio import unchanged_digest

if TYPE_CHECKING:
    from PIL.Image import Image
    from torchvision.transforms import Compose

__all__ = [
    "available_models",
    "build_model",
    "input_resolution",
    "load",
    "load_state_dict",
    "tokenize",
    "unlearned_words",
    "weights_digest",
]

# OpenAI's nine models, and the demo's: address of the file, whose folder is its SHA-256.
_MODELS = {
    "RN50": f"{OPENAI}afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt",
    "RN101": f"{OPENAI}8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599/RN101.pt",
    "RN50x4": f"{OPENAI}7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd/RN50x4.pt",
    "RN50x16": f"{OPENAI}52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa/RN50x16.pt",
    "RN50x64": f"{OPENAI}be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c/RN50x64.pt",
    "ViT-B/32": f"{OPENAI}40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
    "ViT-B/16": f"{OPENAI}5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt",
    "ViT-L/14": f"{OPENAI}b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
    "ViT-L/14@336px": f"{OPENAI}3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt",  # noqa: E501
    "Demo-ViT/8": f"{REPOSITORY}demo/a2004d9d2e5fd0a3cdf5d3eae492768d4cc6c9f61d42cfe09d3e5079fe7bca07/demo-vit-8-quickgelu.pt",  # noqa: E501
}
_RESOLUTIONS = {
    "RN50x4": 288,
    "RN50x16": 384,
    "RN50x64": 448,
    "ViT-L/14@336px": 336,
    "Demo-ViT/8": 48,  # noqa: E501
}  # pixels; the others 224

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)

_download = download  # the name that trainers of the family call


def available_models() -> list[str]:
    """List the names of OpenAI's models, which `load` fetches by itself.

    It knows one more, "Demo-ViT/8", which comes with the repository. That one is no general model (it knows
    the few words of `demo/`), so a program that runs all available models does not meet it.
    """
    return [name for name, address in _MODELS.items() if address.startswith(OPENAI)]


def load(
    name: str,
    device: str | torch.device | None = None,
    jit: bool = False,
    download_root: str | Path | None = None,
    *,
    quick_gelu: bool | None = None,
) -> tuple[CLIP, "Compose"]:
    """Load a CLIP and the preprocessing of its images.

    Args:
        name: one of `available_models()`, "Demo-ViT/8", or a path to weights (formats: see `clip.weights`).
        device: where the model goes; by default the GPU if there is one. float32 on the CPU, else float16.
        jit: not supported; only there because OpenAI's function has it.
        download_root: folder for downloaded files; by default `$CLIP_CACHE`, else `~/.cache/clip`.
        quick_gelu: activation the weights were trained with, for files that do not tell.

    Returns:
        The model in evaluation mode, and a transform from a PIL image to a (3, R, R) tensor.

    Raises:
        ValueError: no such name or file, unreadable or unfitting weights, or an unknown activation.
        OSError: the download failed.
    """
    if jit:
        raise ValueError(
            "jit=True is not supported: load with jit=False, and torch.compile the model if you like"
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    weights = load_state_dict(name, download_root)
    quick_gelu = weights.decide_quick_gelu(quick_gelu)
    half = device.type != "cpu"
    model = build_model(weights.state_dict, quick_gelu, source=weights.source, half=half).to(device)
    return model, _transform(model.visual.input_resolution)


def weights_digest(name: str) -> str | None:
    """SHA-256 of a CLIP's file by its name or path; None where there is no such file.

    That of OpenAI's files stands in their address and is checked on reading.
    """
    if known := re.search(r"[0-9a-f]{64}", _MODELS.get(name, "")):
        return known[0]
    path = Path(name).expanduser()
    return unchanged_digest(path) if path.is_file() else None


def load_state_dict(name: str | Path, download_root: str | Path | None = None) -> Weights:
    """Read the weights of a named model (downloading them at need) or of a file, under OpenAI's names."""
    path = _download(_MODELS[name], download_root) if name in _MODELS else _existing_file(name)
    return read_weights(path, _published())


def input_resolution(name: str | Path, download_root: str | Path | None = None) -> int:
    """Tell the side of a CLIP's input image in pixels, without a download for the named models.

    `download_root` is there for symmetry with `load_state_dict`; nothing is fetched.
    """
    if name in _MODELS:
        return _RESOLUTIONS.get(str(name), 224)
    path = _existing_file(name)
    stat = path.stat()
    return _file_resolution(path, stat.st_mtime_ns, stat.st_size)


def tokenize(texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> torch.Tensor:
    """Turn texts into token ids, each between a start and an end token and filled up with zeros.

    Args:
        texts: one text or several.
        context_length: columns of the result.
        truncate: cut texts that are too long (the end token stays) instead of raising.

    Returns:
        int32 tensor (N, context_length).

    Raises:
        ValueError: a text is too long, or no text.
    """
    texts = [texts] if isinstance(texts, str) else texts
    tokenizer = _tokenizer()
    start, end = tokenizer.encoder[START], tokenizer.encoder[END]
    result = torch.zeros(len(texts), context_length, dtype=torch.int)
    for row, text in zip(result, texts, strict=True):
        if not isinstance(text, str):
            raise ValueError(f"cannot tokenize {text!r}: pass a str or a list of them")
        tokens = [start, *tokenizer.encode(text), end]
        if len(tokens) > context_length:
            if not truncate:
                raise ValueError(
                    f'text of {len(tokens)} tokens does not fit context length {context_length}: "{text}"; '
                    "shorten it or pass truncate=True"
                )
            tokens = [*tokens[: context_length - 1], end]
        row[: len(tokens)] = torch.tensor(tokens, dtype=torch.int)
    return result


def unlearned_words(model: CLIP, tokens: torch.Tensor) -> list[str]:
    """List the words, or pieces of words, that mean nothing to a CLIP because its file has no rows for them.

    Args:
        model: any CLIP; only one of a compact file (`clip.compact`) has such words.
        tokens: what `tokenize` gave.
    """
    decode = _tokenizer().decode
    unlearned = unlearned_tokens(model.token_embedding.weight, tokens)
    return [decode([number]).strip() for number in unlearned.tolist()]


@lru_cache(maxsize=1)
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


@lru_cache
def _file_resolution(path: Path, mtime_ns: int, size: int) -> int:
    """Read a file's resolution; time and size are there so that a changed file is read again."""
    return architecture(read_weights(path, _published()).state_dict, str(path))["image_resolution"]


def _published() -> list[str]:
    """List the SHA-256 of the files that the table of models names."""
    return re.findall(r"/([0-9a-f]{64})/", " ".join(_MODELS.values()))


def _existing_file(name: str | Path) -> Path:
    if not str(name):
        raise ValueError(f"no CLIP model is named: pass one of {', '.join(_MODELS)}, or a path to weights")
    path = Path(name).expanduser()
    if path.is_file():
        return path
    what = (
        "a folder" if path.is_dir() else f"neither a CLIP model (available: {', '.join(_MODELS)}) nor a file"
    )
    raise ValueError(f'"{name}" is {what}: pass one of the names or a path to weights')


def _transform(n_px: int) -> "Compose":
    """Build CLIP's preprocessing: PIL image to a normalised (3, n_px, n_px) float32 tensor."""
    from torchvision import transforms  # late: its import is slow, and trainers bring their own transforms

    return transforms.Compose(
        [
            transforms.Resize(n_px, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(n_px),
            _to_rgb,
            transforms.ToTensor(),
            transforms.Normalize(PIXEL_MEAN, PIXEL_STD),
        ]
    )


def _to_rgb(image: "Image") -> "Image":
    return image.convert("RGB")
