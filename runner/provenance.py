"""Where a run's numbers come from: the code, the machine, the images and the weights."""

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from clip import clip
from fileio import file_digest, unchanged_digest

PACKAGES = ("torch", "torchvision", "numpy", "Pillow", "open_clip_torch")


def backbone_digest(name: str) -> str | None:
    """SHA-256 of CLIP's weights; None where it is not known. OpenAI's files are checked on reading."""
    if known := re.search(r"[0-9a-f]{64}", clip._MODELS.get(name, "")):
        return known[0]
    path = Path(name).expanduser()
    return unchanged_digest(path) if path.is_file() else None


def describe_mismatch(there: str | None, here: str | None) -> str:
    """How two digests differ; "" where they do not, or one is not known."""
    return f"SHA-256 {there[:12]}…, not {here[:12]}…" if there and here and there != here else ""


def saved_weights(output_dir: str, epoch: int) -> dict[str, str]:
    """SHA-256 of a training run's checkpoints of its last epoch, by name of the model."""
    paths = sorted(Path(output_dir).glob(f"*/model.pth.tar-{epoch}"))
    return {path.parent.name: file_digest(path) for path in paths}


def exported_adapters(output_dir: str) -> dict[str, str]:
    """SHA-256 of the files to share that a training run left, by their path below its folder."""
    paths = sorted(Path(output_dir).glob("*/adapter.safetensors"))
    return {path.relative_to(output_dir).as_posix(): file_digest(path) for path in paths}


def describe_data(dataset: Any, root: str) -> dict[str, dict[str, Any]]:
    """Number and digest of the images of each part that the data set has.

    The digest is the SHA-256 of the lines ``path below root, tab, label, tab, class name`` in the order of
    the list: two runs with equal digests saw the same images with the same labels, wherever the data lay.
    """
    start = f"{Path(root).expanduser().absolute()}{os.sep}"
    described = {}
    for name, attribute in (("train", "train_x"), ("val", "val"), ("test", "test")):
        part = getattr(dataset, attribute, None)
        if not part:
            continue
        lines = (f"{item.impath.removeprefix(start)}\t{item.label}\t{item.classname}\n" for item in part)
        described[name] = {
            "images": len(part),
            "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(),
        }
    return described


def prompts_digest(prompts: Sequence[Sequence[str]]) -> str:
    """SHA-256 of the prompts of each class, class after class."""
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Versions and device."""
    on_gpu = device.type == "cuda"
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package.lower()] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package.lower()] = None
    versions |= {"torch": torch.__version__, "cuda": torch.version.cuda}
    return {
        "versions": versions,
        "device": torch.cuda.get_device_name(device) if on_gpu else cpu_name(),
        "device_memory": torch.cuda.get_device_properties(device).total_memory if on_gpu else None,
        "threads": torch.get_num_threads(),
        "system": platform.platform(terse=True),
    }


def cpu_name() -> str:
    """What the CPU calls itself."""
    try:
        named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


def describe_code() -> dict[str, Any]:
    """The commit this code stands at and whether it was changed since; None outside a clone."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        here = Path(__file__).parent
        said = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": None, "git_dirty": None}
    commit = said.removesuffix("-dirty")
    return {"git_commit": commit, "git_dirty": commit != said}


def describe_weights(cfg: CfgNode) -> dict[str, Any]:
    """The backbone's name and digest."""
    return {"backbone": cfg.MODEL.BACKBONE.NAME, "backbone_sha256": backbone_digest(cfg.MODEL.BACKBONE.NAME)}
