"""A trained adapter as one file: ``adapter.safetensors``, its configuration in the metadata.

The file needs neither the run's folder nor the data set: besides the adapter weights, under their published
names and in the type they were trained in, it tells the method, the configuration, the backbone and its
digest, the classes and their prompts. Metadata of safetensors are strings: lists are JSON, the configuration
is YAML.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from yacs.config import CfgNode

from adapt.model import CustomCLIP
from adapt.precision import device_of, is_emulated
from dassl.config import get_cfg_default
from fileio import atomic_write
from runner.config import extend_cfg, merge, parse_cfg
from runner.provenance import backbone_digest, describe_mismatch, prompts_digest
from runner.record import config_text, trainer_class

logger = logging.getLogger(__name__)

FILE_NAME = "adapter.safetensors"
FORMAT, VERSION = "VLM-HeBA adapter", 1


@dataclass(frozen=True)
class Adapter:
    """What such a file holds.

    Attributes:
        path: where it was read.
        tensors: adapter weights by published name, on the CPU.
        cfg: the complete configuration it was trained with.
        backbone_sha256: digest of the backbone's file; None if it had none.
        classnames: names of the classes, by label.
        prompts: the prompts of each class.
        epoch: number of epochs it was trained for.
    """

    path: Path
    tensors: dict[str, torch.Tensor]
    cfg: CfgNode
    backbone_sha256: str | None
    classnames: list[str]
    prompts: list[list[str]]
    epoch: int


def write_adapter(
    path: Path,
    tensors: dict[str, torch.Tensor],
    cfg: CfgNode,
    classnames: list[str],
    prompts: list[list[str]],
    epoch: int,
) -> None:
    """Writes such a file, whole or not at all; the arguments are those of ``Adapter``.

    Raises:
        OSError: the file cannot be written.
        FloatingPointError: a weight is infinite or NaN.
    """
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise FloatingPointError(
            f'"{path}" is not written: {len(bad)} of {len(tensors)} weights are infinite or NaN, first '
            f"{bad[0]}; train again with a lower OPTIM.LR"
        )
    metadata = {
        "format": FORMAT,
        "format_version": str(VERSION),
        "trainer": cfg.TRAINER.NAME,
        "dataset": cfg.DATASET.NAME,
        "epoch": str(epoch),
        "backbone": cfg.MODEL.BACKBONE.NAME,
        "backbone_sha256": backbone_digest(cfg.MODEL.BACKBONE.NAME) or "",
        "config": config_text(cfg),
        "classnames": json.dumps(classnames),
        "prompts": json.dumps(prompts),
        "prompts_sha256": prompts_digest(prompts),
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


def read_adapter(path: Path) -> Adapter:
    """Reads such a file; nothing in it is executed.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, something else, of a later version, or has options unknown here.
    """
    if not path.is_file():
        raise FileNotFoundError(f'no adapter at "{path}"; a finished training run leaves one')
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
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
        content = parse_content(metadata)
        cfg = get_cfg_default()
        extend_cfg(cfg)
        settings = only_known(parse_cfg(metadata["config"]), cfg)
    except (
        KeyError,
        ValueError,
        AttributeError,
        TypeError,
        RecursionError,
    ) as error:
        raise ValueError(f'the metadata of "{path}" are damaged ({error!r}); fetch it again') from error
    merge(cfg, settings, f'"{path}"')
    digest = metadata.get("backbone_sha256") or None
    return Adapter(path=path, tensors=tensors, cfg=cfg, backbone_sha256=digest, **content)


def parse_content(metadata: dict[str, str]) -> dict[str, Any]:
    """Class names, prompts and epoch in the metadata (KeyError or ValueError where they are damaged)."""
    content = {key: json.loads(metadata[key]) for key in ("classnames", "prompts", "epoch")}
    check_types(content, metadata)
    return content


def check_types(content: dict[str, Any], metadata: dict[str, str]) -> None:
    """Refuses lists and numbers of the metadata that are not what ``Adapter`` says (ValueError)."""
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
    if missing := [key for key in ("trainer", "backbone", "dataset") if not metadata.get(key)]:
        raise ValueError(f"no {missing[0]}")


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of such a file, without its weights; empty if it is missing or cannot be read."""
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
        content = parse_content(metadata)
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f'the metadata of "{path}" are damaged ({error!r}); fetch it again') from error
    return dict(zip(content["classnames"], content["prompts"], strict=True))


def only_known(settings: CfgNode, known: CfgNode) -> CfgNode:
    """Leaves out what only another Dassl declares, such as ``DATASET.CIFAR_C_TYPE`` of the original.

    A method's own options are all kept: an unknown one would mean another model.
    """
    return CfgNode(
        {
            key: only_known(value, known[key]) if isinstance(value, CfgNode) and key != "TRAINER" else value
            for key, value in settings.items()
            if key in known
        }
    )


def load_adapter(path: Path, backbone: str = "") -> tuple[CustomCLIP, Adapter]:
    """The model that was trained: CLIP with the file's adapters and prompts, on the CPU in evaluation mode.

    Forward passes belong into the precision that the configuration returned with it names, ``PREC`` of the
    method's options: ``get_precision(cfg.TRAINER.HeBA.PREC, "PREC").autocast(device)``. That is the one the
    model was trained in, or fp32 on a CPU that only emulates it.

    Args:
        path: the file.
        backbone: name or path of CLIP's weights, if they do not lie where they did in training.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: ``read_adapter`` refuses it, or backbone or tensors are not those it was trained with.
    """
    from trainers.clip_trainer import ClipTrainer, load_strictly  # which imports this file

    adapter = read_adapter(path)
    cfg = adapter.cfg
    if backbone:
        cfg.MODEL.BACKBONE.NAME = backbone
    if digests := describe_mismatch(adapter.backbone_sha256, backbone_digest(cfg.MODEL.BACKBONE.NAME)):
        raise ValueError(
            f'"{path}" was trained on other weights than backbone "{cfg.MODEL.BACKBONE.NAME}" has '
            f"({digests}); name those that it was trained on"
        )
    name = cfg.TRAINER.NAME
    method = trainer_class(cfg)
    if not (isinstance(method, type) and issubclass(method, ClipTrainer)):
        raise ValueError(f'"{path}" is of trainer "{name}", which is none here that adapters belong to')
    options = cfg.TRAINER[method.node()]
    if is_emulated(options.PREC, device_of(cfg)):
        logger.warning(
            '"%s" was trained in %s, which this CPU only emulates: it is evaluated in fp32',
            *(path, options.PREC),
        )
        options.PREC = "fp32"
    cfg.freeze()
    model = method.without_data(cfg).build_clip(adapter.prompts).eval()
    if model.adapter_learner is None:
        raise ValueError(f'"{path}" is of trainer "{name}", which has no adapters')
    load_strictly(model.adapter_learner, adapter.tensors, path)
    return model, adapter
