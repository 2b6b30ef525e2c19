"""Where a run's numbers come from: the code, the machine, the images and the weights."""

import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from clip import weights_digest
from fileio import file_digest, labelled_files_digest

PACKAGES = ("torch", "torchvision", "numpy", "Pillow", "open_clip_torch")


def saved_weights(output_dir: str, epoch: int) -> dict[str, str]:
    """SHA-256 of a training run's checkpoints of its last epoch, by name of the model."""
    paths = sorted(Path(output_dir).glob(f"*/model.pth.tar-{epoch}"))
    return {path.parent.name: file_digest(path) for path in paths}


def exported_adapters(output_dir: str) -> dict[str, str]:
    """SHA-256 of the files to share that a training run left, by their path below its folder."""
    paths = sorted(Path(output_dir).glob("*/adapter.safetensors"))
    return {path.relative_to(output_dir).as_posix(): file_digest(path) for path in paths}


def describe_data(dataset: Any, root: str) -> dict[str, dict[str, Any]]:
    """Number and digest (``labelled_files_digest``) of the images of each part that the data set has."""
    described = {}
    for name, attribute in (("train", "train_x"), ("val", "val"), ("test", "test")):
        if part := getattr(dataset, attribute, None):
            described[name] = {"images": len(part), "sha256": labelled_files_digest(part, root)}
    return described


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
    return {"backbone": cfg.MODEL.BACKBONE.NAME, "backbone_sha256": weights_digest(cfg.MODEL.BACKBONE.NAME)}
