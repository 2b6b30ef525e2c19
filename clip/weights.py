"""Reading CLIP weight files and recognising what is in them.

Formats: OpenAI's own TorchScript archives (programs, so no others); state dicts of `torch.save`, plain or
under the key "state_dict", with or without "module." prefixes; safetensors. Names: OpenAI's, or those of
open_clip, whose CustomTextCLIP keeps the text tower under "text.". Hugging Face transformers' names are
recognised and refused. Rows of the text tower's tables may be left out (`clip.compact`).
"""

import json
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from clip.architecture import architecture
from clip.compact import expand, is_compact
from fileio import unchanged_digest
from fileio.unpickle import is_torchscript, read_tensors

OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")  # numbers beside the tensors
OPENAI_FILES = (
    *("RN50.pt", "RN101.pt", "RN50x4.pt", "RN50x16.pt", "RN50x64.pt"),
    *("ViT-B-32.pt", "ViT-B-16.pt", "ViT-L-14.pt", "ViT-L-14-336px.pt"),
)
TEXT_TOWER = ("token_embedding.", "transformer.", "ln_final.", "positional_embedding", "text_projection")

# Which activation published weights were trained with (open_clip 3.3, pretrained.py). The first pattern found
# in the lower-case name answers; on LAION-400M only ViT-B/32 was trained with QuickGELU.
QUICK_GELU_BY_NAME = (
    (r"quick[-_]?gelu", True),
    (r"laion2b|datacomp|commonpool", False),
    (r"(b[-_]?|patch)32.*laion400m", True),
    (r"((b[-_]?|patch)16|(l[-_]?|patch)14).*laion400m", False),
    (r"metaclip.*altogether|[hv]14_v1\.2_altogether", False),
    (r"metaclip.*(400m|fullcc|2pt5b)|^(b32|b16|l14|h14)_(400m|fullcc2\.5b)\.pt$", True),
    (r"dfn2b.*39b", False),
    (r"dfn[25]b", True),
    (r"_clip.*\.openai", True),
)


@dataclass(frozen=True)
class Weights:
    """The tensors of one CLIP under OpenAI's names.

    Attributes:
        state_dict: tensors by name, on the CPU.
        quick_gelu: activation they were trained with; None where the file does not tell.
        source: the file they come from.
    """

    state_dict: dict[str, Tensor]
    quick_gelu: bool | None
    source: str

    def decide_quick_gelu(self, told: bool | None = None) -> bool:
        """Answer which activation to build: what the caller was told, else what the file tells.

        Raises:
            ValueError: neither is known.
        """
        answer = self.quick_gelu if told is None else told
        if answer is None:
            raise ValueError(
                f"{self.source}: neither the file nor its name tells whether these weights were trained with "
                "QuickGELU: pass quick_gelu=True (OpenAI's activation) or quick_gelu=False (exact GELU)"
            )
        return answer


def read_weights(path: str | Path, published: Collection[str] = ()) -> Weights:
    """Read a weight file of any understood format.

    Args:
        path: the file.
        published: SHA-256 of the TorchScript archives that may be opened. Opening one runs the program in it,
            so any other is refused before.

    Raises:
        ValueError: the file is damaged, of another format, holds something else than a CLIP, or is a
            TorchScript archive of others.
    """
    path = Path(path)
    kind = _file_kind(path)
    metadata: dict[str, str] = {}
    if kind == "torchscript" and (digest := unchanged_digest(path)) not in published:
        extra = "-tensors" if path.suffix == ".safetensors" else ""  # not onto the archive itself
        raise ValueError(
            f"{path}: is a TorchScript archive, a program, and is not run: its SHA-256 {digest[:12]}… is "
            "none of OpenAI's. Save its tensors alone, on a machine where you trust the file: "
            f'safetensors.torch.save_file(torch.jit.load("{path.name}").state_dict(), '
            f'"{path.stem}{extra}.safetensors")'
        )
    try:
        if kind == "safetensors":
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                content: Any = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        elif kind == "torchscript":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TorchScript is deprecated, OpenAI's files are not
                content = torch.jit.load(path, map_location="cpu").state_dict()
        else:
            content = read_tensors(path)
    except Exception as error:  # damaged pickles and archives raise nearly anything
        raise ValueError(
            f"{path}: cannot be read as {kind} ({_first_line(error)}); it is damaged or holds more than "
            "tensors: fetch it again, or save model.state_dict() alone"
        ) from error

    tensors = _unwrap(content, str(path))
    told = _quick_gelu_in_metadata(metadata, path)
    if told is None and (kind == "torchscript" or _has_openai_extras(tensors)):
        told = True
    if told is None:
        told = quick_gelu_by_name(path)
    state_dict = normalise(tensors, str(path))
    architecture(state_dict, str(path))
    return Weights(state_dict, told, str(path))


def quick_gelu_by_name(path: Path) -> bool | None:
    """Tell the activation from a file name, or from the repository's name in a Hugging Face cache.

    Returns:
        True or False where published weights of that name settle it, else None.
    """
    if path.name in OPENAI_FILES:
        return True
    repositories = [part for part in path.parts if part.startswith("models--")]
    for name in (path.name.lower(), *map(str.lower, repositories)):
        for pattern, answer in QUICK_GELU_BY_NAME:
            if re.search(pattern, name):
                return answer
    return None


def normalise(state_dict: Mapping[str, Any], source: str = "state dict") -> dict[str, Tensor]:
    """Return the tensors under OpenAI's names, without wrappers, prefixes, masks and OpenAI's extra numbers.

    Rows that a compact file leaves out are filled.

    Raises:
        ValueError: a value is no tensor, the names are those of Hugging Face transformers, or the tables of a
            compact file do not fit.
    """
    tensors = {name: t for name, t in _unwrap(state_dict, source).items() if name not in OPENAI_EXTRAS}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f'{source}: "{name}" is a {type(tensor).__name__}, not a tensor: pass a state dict'
            )
    if any(name.startswith(("vision_model.", "text_model.")) for name in tensors):
        raise ValueError(
            f"{source}: these are Hugging Face transformers' tensor names, which are not supported: take the "
            "same model from OpenAI or open_clip (files open_clip_*.safetensors or open_clip_*.bin)"
        )
    if "text.text_projection.weight" in tensors:  # a Linear of open_clip: (E, D) instead of (D, E)
        tensors["text.text_projection"] = tensors.pop("text.text_projection.weight").t()
    tensors = {_without_text_prefix(name): tensor for name, tensor in tensors.items()}
    tensors.pop("attn_mask", None)  # a buffer of old open_clip files
    return expand(tensors, source) if is_compact(tensors) else tensors


def _file_kind(path: Path) -> str:
    """Look at the first bytes: "safetensors", "torchscript" or "state dict" (torch.save, either format)."""
    with open(path, "rb") as file:
        head = file.read(16)
    size = path.stat().st_size
    if head.startswith(b"PK"):
        try:
            return "torchscript" if is_torchscript(path) else "state dict"
        except (zipfile.BadZipFile, OSError) as error:
            raise ValueError(
                f"{path}: the archive is damaged or cut off ({size} bytes): fetch it again"
            ) from error
    if head.startswith(b"\x80"):
        return "state dict"
    if path.suffix == ".safetensors" or (head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size):
        return "safetensors"
    hint = " (it looks like a web page)" if head.lstrip().startswith(b"<") else ""
    hint = " (it is a Git LFS pointer: run git lfs pull)" if head.startswith(b"version https") else hint
    raise ValueError(
        f"{path}: not a weight file{hint}: {size} bytes that start with {head!r}; pass a file of "
        "torch.save or safetensors"
    )


def _unwrap(content: Any, source: str) -> dict[str, Any]:
    """Take the state dict out of a checkpoint and strip prefixes that all names share."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise ValueError(
            f"{source}: holds a {type(content).__name__}, not tensors by name: save a state dict"
        )
    content = dict(content)
    for prefix in ("module.", "_orig_mod."):  # of DataParallel and torch.compile
        if content and all(name.startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): value for name, value in content.items()}
    return content


def _without_text_prefix(name: str) -> str:
    """Rename the text tower of open_clip's CustomTextCLIP: "text.ln_final.weight" to "ln_final.weight"."""
    bare = name.removeprefix("text.")
    return bare if bare.startswith((*TEXT_TOWER, "attn_mask")) else name


def _has_openai_extras(tensors: Mapping[str, Any]) -> bool:
    """Tell whether a state dict came out of OpenAI's archive: its extra numbers, and float16 matrices."""
    projection = tensors.get("text_projection")
    half = isinstance(projection, Tensor) and projection.dtype == torch.float16
    return half and all(name in tensors for name in OPENAI_EXTRAS)


def _quick_gelu_in_metadata(metadata: Mapping[str, str], path: Path) -> bool | None:
    """Read the entry "quick_gelu" of a safetensors file."""
    if "quick_gelu" not in metadata:
        return None
    try:
        value = json.loads(metadata["quick_gelu"].lower())
    except (json.JSONDecodeError, RecursionError):
        value = None
    if not isinstance(value, bool):
        raise ValueError(
            f'{path}: metadata quick_gelu is "{metadata["quick_gelu"][:80]}": write "true" or "false"'
        )
    return value


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
