"""A trained adapter as one file: ``adapter.safetensors``, its configuration in the metadata.

The file needs neither the run's folder nor the data set: besides the adapter weights, under their published
names and in the type they were trained in, it tells the method, the configuration, the backbone and its
digest, the classes and their prompts. Metadata of safetensors are strings: lists are JSON, the configuration
is YAML.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from adapt.prompts import prompts_digest
from fileio import atomic_write
from fileio.tensors import tensor_problems

FILE_NAME = "adapter.safetensors"
FORMAT, VERSION = "VLM-HeBA adapter", 1
# Buffers that published code stores among the weights; they follow from the classes, not from training.
DERIVED = ("tk_prompts", "text_features_for_inference", "token_prefix", "token_suffix")


@dataclass(frozen=True)
class AdapterFile:
    """What such a file holds.

    Attributes:
        path: where it is.
        tensors: adapter weights by published name.
        trainer: registry name of the trainer.
        dataset: registry name of the data set.
        backbone: name or path of CLIP's weights.
        backbone_sha256: digest of these; None where it was not known.
        config: the complete configuration of the training as YAML.
        classnames: names of the classes, by label.
        prompts: the prompts of each class.
        epoch: number of epochs it was trained for.
    """

    path: Path
    tensors: dict[str, torch.Tensor]
    trainer: str
    dataset: str
    backbone: str
    backbone_sha256: str | None
    config: str
    classnames: list[str]
    prompts: list[list[str]]
    epoch: int


def write_adapter(adapter: AdapterFile) -> None:
    """Writes such a file to ``adapter.path``, whole or not at all.

    Raises:
        OSError: the file cannot be written.
        FloatingPointError: a weight is infinite or NaN.
    """
    path, tensors = adapter.path, adapter.tensors
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise FloatingPointError(
            f'"{path}" is not written: {len(bad)} of {len(tensors)} weights are infinite or NaN, first '
            f"{bad[0]}; train again with a lower OPTIM.LR"
        )
    metadata = {
        "format": FORMAT,
        "format_version": str(VERSION),
        "trainer": adapter.trainer,
        "dataset": adapter.dataset,
        "epoch": str(adapter.epoch),
        "backbone": adapter.backbone,
        "backbone_sha256": adapter.backbone_sha256 or "",
        "config": adapter.config,
        "classnames": json.dumps(adapter.classnames),
        "prompts": json.dumps(adapter.prompts),
        "prompts_sha256": prompts_digest(adapter.prompts),
    }
    # safetensors takes neither strided nor shared memory
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = memoryview(save(plain, metadata))
    # save puts the metadata in another order each time: the header, which its length precedes, is made anew,
    # so that equal runs write equal bytes
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8:start])) | {"__metadata__": metadata}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors behind it are aligned
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(content[start:])


def read_adapter(path: Path, weights: bool = True) -> AdapterFile:
    """Reads such a file; nothing in it is executed.

    Args:
        path: the file.
        weights: whether to read the tensors, on the CPU; without, there are none.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, something else, or of a later version.
    """
    if not path.is_file():
        raise FileNotFoundError(f'no adapter at "{path}"; a finished training run leaves one')
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()} if weights else {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f'"{path}" is cut off or no safetensors file ({error}); fetch it again') from error
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f'"{path}" is no adapter of this project: its metadata hold {sorted(metadata) or "nothing"}'
        )
    if metadata.get("format_version") != str(VERSION):
        raise ValueError(
            f'"{path}" has format version {metadata.get("format_version")}, but version {VERSION} is '
            "understood here; update the code"
        )
    try:
        content = parse_metadata(metadata)
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f'the metadata of "{path}" are damaged ({error!r}); fetch it again') from error
    return AdapterFile(path=path, tensors=tensors, **content)


def parse_metadata(metadata: dict[str, str]) -> dict[str, Any]:
    """What the metadata say, by attribute of ``AdapterFile`` (KeyError or ValueError: they are damaged)."""
    content = {key: json.loads(metadata[key]) for key in ("classnames", "prompts", "epoch")}
    classnames, prompts = content["classnames"], content["prompts"]

    def is_texts(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)

    if not is_texts(classnames):
        raise ValueError("classnames is no list of names")
    if not (isinstance(prompts, list) and len(prompts) == len(classnames) and all(map(is_texts, prompts))):
        raise ValueError("prompts is no list of texts for each class")
    if type(content["epoch"]) is not int:
        raise ValueError("epoch is no number")
    if metadata.get("prompts_sha256", prompts_digest(prompts)) != prompts_digest(prompts):
        raise ValueError("the prompts have another digest than prompts_sha256 says")
    named = ("trainer", "backbone", "dataset")
    if missing := [key for key in named if not metadata.get(key)]:
        raise ValueError(f"no {missing[0]}")
    content |= {key: metadata[key] for key in (*named, "config")}
    return content | {"backbone_sha256": metadata.get("backbone_sha256") or None}


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of such a file as they are; empty if it is missing or cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError):
        return {}


def recorded_prompts(path: Path, dataset: str) -> dict[str, list[str]]:
    """The prompts of each class in such a file; empty where it is missing or of another data set.

    Raises:
        ValueError: they are damaged.
    """
    metadata = read_metadata(path)
    if metadata.get("dataset") != dataset:
        return {}
    try:
        content = parse_metadata(metadata)
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f'the metadata of "{path}" are damaged ({error!r}); fetch it again') from error
    return dict(zip(content["classnames"], content["prompts"], strict=True))


def load_strictly(module: nn.Module, state_dict: Mapping[str, torch.Tensor], source: Path) -> None:
    """Loads a method's tensors, all of them or none.

    Args:
        module: holds the adapter weights by their published names.
        state_dict: what a file has; what published code derives from the classes (``DERIVED``) is left out.
        source: the file, for messages.

    Raises:
        ValueError: tensors are missing, unexpected, misshapen, no floating point, or not finite; names them.
    """
    given = {name: tensor for name, tensor in state_dict.items() if name not in DERIVED}
    problems = tensor_problems(given, module.state_dict())
    bad = problems.pop("with NaN or infinity", [])
    if problems:
        found = [f"{kind} {name}" for kind, names in problems.items() for name in names]
        shown = "; ".join(found[:6]) + (f"; and {len(found) - 6} more" if len(found) > 6 else "")
        raise ValueError(
            f'"{source}" does not fit this configuration: {shown}; '
            "use the backbone and the adapter settings that it was trained with"
        )
    if bad:
        raise ValueError(
            f'"{source}" holds NaN or infinity, in {len(bad)} of its tensors, the first is {bad[0]}; '
            "train again"
        )
    module.load_state_dict(given)
