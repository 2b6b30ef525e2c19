"""The configuration of a run: defaults, YAML files, flags, ``KEY VALUE`` pairs; every key is checked."""

import argparse
import ast
import importlib
import math
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from yacs.config import CfgNode

from adapt.options import check_type
from clip import clip
from dassl.config import get_cfg_default
from fileio.yaml_text import parse_yaml
from runner import ROOT
from runner.record import other_methods


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """Dassl's defaults, then the data set's file, the method's file, the flags, and KEY VALUE pairs.

    Raises:
        ValueError: a file or key is unknown, a value has the wrong type, the backbone is unknown.
    """
    cfg = get_cfg_default()
    extend_cfg(cfg)
    declared = cfg.clone()
    sources = {}
    for flag, path in (
        ("--dataset-config-file", args.dataset_config_file),
        ("--config-file", args.config_file),
    ):
        sources[f'{flag} "{path}"'] = merge_file(cfg, flag, path, declared)
    flags = {
        "DATASET.ROOT": args.root,
        "OUTPUT_DIR": args.output_dir,
        "RESUME": args.resume,
        "SEED": args.seed,
        "DATASET.SOURCE_DOMAINS": args.source_domains,
        "DATASET.TARGET_DOMAINS": args.target_domains,
        "INPUT.TRANSFORMS": args.transforms,
        "TRAINER.NAME": args.trainer,
        "MODEL.BACKBONE.NAME": args.backbone,
        "MODEL.HEAD.NAME": args.head,
    }
    for key, value in flags.items():
        if value not in ("", None):
            merge(cfg, nested(key, value), "command line", declared)
    sources["command line"] = merge_pairs(cfg, args.opts, declared)
    check_one_home(cfg.TRAINER.NAME)
    for source, keys in sources.items():
        check_own_options(cfg, keys, source)
    if not cfg.MODEL.BACKBONE.NAME:
        raise ValueError("MODEL.BACKBONE.NAME is not set; name the method's configuration with --config-file")
    try:
        resolution = clip.input_resolution(cfg.MODEL.BACKBONE.NAME)
    except ValueError as error:
        raise ValueError(f"MODEL.BACKBONE.NAME: {error}") from error
    if not any("INPUT.SIZE" in keys for keys in sources.values()):
        cfg.INPUT.SIZE = (resolution, resolution)
    cfg.freeze()
    return cfg


def check_named(cfg: CfgNode) -> None:
    """Checks that a configuration names what a run cannot do without.

    Raises:
        ValueError: it names no data set or no trainer; says which flag does.
    """
    if not cfg.DATASET.NAME:
        raise ValueError(
            "DATASET.NAME is not set; name the data set's configuration with --dataset-config-file "
            "configs/datasets/<data set>.yaml"
        )
    if not cfg.TRAINER.NAME:
        raise ValueError("TRAINER.NAME is not set; name the method with --trainer")


def extend_cfg(cfg: CfgNode) -> None:
    """Declares the keys that Dassl does not have: the family's, ours, and those of each file in trainers/."""
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base or new
    cfg.DATASET.LISTING = "sorted"  # files of a folder; unsorted: as the file system lists them (CoOp)
    cfg.DATASET.TEMPLATE = ""  # prompt of every class, "an X-ray of a {}."; "": CoOp's, HeBA's descriptions
    cfg.DATASET.BAD_IMAGES = "refuse"  # ImageFolder: refuse pictures that cannot be read, or skip them
    cfg.INPUT.EXIF_TRANSPOSE = False  # turn pictures upright as their EXIF orientation says; Dassl does not
    cfg.TRAIN.TEXT_CACHE_MB = 2048.0  # device memory for what frozen text blocks make of the prompts; 0: none
    # The original Dassl keeps no resume file: there these two are declared, and have no effect.
    cfg.TRAIN.setdefault("RESUME", True)
    cfg.TRAIN.setdefault("RESUME_SECONDS", 60.0)
    cfg.MODEL.COMPILE = False  # both encoders by torch.compile, minutes at the first step; needs torch 2.7
    cfg.MODEL.BACKBONE.QUICK_GELU = None  # True or False where the weights' file does not tell
    # CoOp and MaPLe declare these in their train.py; a published trainer file, dropped into trainers/ or put
    # in the place of ours, needs them, or our YAML files set them. Our own files say what they mean.
    cfg.TRAINER.COOP = CfgNode(
        {"N_CTX": 16, "CSC": False, "CTX_INIT": "", "PREC": "auto", "CLASS_TOKEN_POSITION": "end"}
    )
    cfg.TRAINER.COCOOP = CfgNode({"N_CTX": 16, "CTX_INIT": "", "PREC": "auto"})
    cfg.TRAINER.MAPLE = CfgNode({"N_CTX": 2, "CTX_INIT": "a photo of a", "PREC": "auto", "PROMPT_DEPTH": 9})
    cfg.TRAINER.ZeroshotCLIP = CfgNode({"PREC": "auto"})
    import_all("datasets")
    for module in import_all("trainers"):
        if hasattr(module, "extend_cfg"):
            module.extend_cfg(cfg)


def import_all(package: str) -> list[ModuleType]:
    """Imports every file of a package, also one dropped in; one that fails is named and left out."""
    modules = []
    for info in pkgutil.iter_modules([str(ROOT / package)]):
        if info.ispkg:
            continue
        try:
            modules.append(importlib.import_module(f"{package}.{info.name}"))
        except Exception as error:  # noqa: BLE001  # whatever is wrong with it must not stop the others
            print(
                f"warning: {package}/{info.name}.py is left out, it does not import: {error!r}",
                file=sys.stderr,
            )
    return modules


def check_one_home(trainer: str) -> None:
    """Refuses a trainer that two files define: which of them were run would depend on their names.

    Raises:
        ValueError: there are two; names the files.
    """
    definition = re.compile(rf"^class {re.escape(trainer)}\b", re.MULTILINE)
    files = sorted((ROOT / "trainers").glob("*.py"))
    homes = [file for file in files if definition.search(file.read_text("utf-8", errors="replace"))]
    if trainer and len(homes) > 1:
        raise ValueError(
            f"trainer {trainer} is defined in {' and '.join(f'trainers/{file.name}' for file in homes)}; "
            "remove one of the files, or rename its class"
        )


def check_own_options(cfg: CfgNode, given: set[str], source: str) -> None:
    """Refuses options of other methods, which nobody would read, among the keys that a source sets.

    Raises:
        ValueError: there are some; names them, and where the trainer's own stand.
    """
    others = other_methods(cfg)
    strange = sorted(key for key in given if key.startswith(tuple(f"TRAINER.{name}." for name in others)))
    if strange:
        own = [name for name, node in cfg.TRAINER.items() if isinstance(node, CfgNode) and name not in others]
        raise ValueError(
            f"{source}: {', '.join(strange)}: options of another method, which {cfg.TRAINER.NAME} does not "
            f"read; its own stand below TRAINER.{own[0]}"
        )


def merge_file(cfg: CfgNode, flag: str, path: str, declared: CfgNode | None = None) -> set[str]:
    """Merges a YAML file; returns the keys that it sets."""
    if not path:
        return set()
    if not Path(path).is_file():
        there = ", ".join(sorted(file.stem for file in Path(path).parent.glob("*.yaml"))) or "none"
        raise ValueError(f'{flag} "{path}" does not exist; configurations there: {there}')
    try:
        content = parse_cfg(Path(path).read_text(encoding="utf-8"), declared or cfg)
    except ValueError as error:
        raise ValueError(f'{flag} "{path}" is not a YAML configuration: {error}') from error
    return merge(cfg, content, f'{flag} "{path}"', declared)


def parse_cfg(text: str, known: CfgNode | None = None) -> CfgNode:
    """A tree of settings from YAML text.

    yacs' own function also runs files: those that are called ``*.py``.

    Args:
        text: the YAML.
        known: every key with its default; those whose default is text keep the text as it is written.

    Raises:
        ValueError: it is no YAML, or holds what no configuration holds.
    """
    content = parse_yaml(text)
    if known is not None and content:
        keep_typed(content, yaml.load(text, yaml.BaseLoader), known)
    try:
        return CfgNode(content)
    except AssertionError as error:
        raise ValueError(" ".join(str(error).split())) from error


def keep_typed(content: dict[str, Any], typed: dict[str, Any], known: CfgNode) -> None:
    """Replaces values of text keys that YAML reads as something else, as ``ROOT: 2024``, by their text.

    Args:
        content: the tree as YAML reads it.
        typed: the same tree with the text of each value.
        known: every key with its default.
    """
    for key, value in content.items():
        text, default = typed.get(key), known.get(key)
        if isinstance(value, dict) and isinstance(text, dict) and isinstance(default, dict):
            keep_typed(value, text, default)
        elif isinstance(default, str) and isinstance(text, str) and value is not None:
            content[key] = text


def merge_pairs(cfg: CfgNode, pairs: list[str], declared: CfgNode | None = None) -> set[str]:
    """Merges ``KEY VALUE …`` from the command line; returns the keys."""
    if len(pairs) % 2:
        raise ValueError(
            f"options must be pairs KEY VALUE, but {len(pairs)} words were given: {' '.join(pairs)}"
        )
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        merge(cfg, nested(key, value), f"command line: {key} {value}", declared)
    return set(pairs[::2])


def nested(key: str, value: Any) -> CfgNode:
    """The tree of settings that sets a dotted key alone."""
    for part in reversed(key.split(".")):
        value = CfgNode({part: value})
    return value


def merge(cfg: CfgNode, content: Any, source: str, declared: CfgNode | None = None) -> set[str]:
    """Merges a tree of settings; returns its dotted keys.

    Args:
        cfg: takes the settings.
        content: the tree.
        source: where it comes from.
        declared: every key with its default; only what is None there may be set to None. Default: ``cfg``.

    Raises:
        ValueError: a key is unknown, or a value has the wrong type; the message names the source.
    """
    keys = checked_keys(declared or cfg, content, "", source)
    try:
        cfg.merge_from_other_cfg(content)
    except (ValueError, AssertionError, KeyError) as error:
        raise ValueError(f"{source}: {error}") from error
    return keys


def checked_keys(known: Any, content: Any, prefix: str, source: str) -> set[str]:
    """The dotted keys of ``content``, all declared; its values become those that their keys take."""
    keys = set()
    for key, value in content.items():
        name = f"{prefix}{key}"
        if key not in known:
            raise ValueError(f"{source}: unknown key {name}; known there: {', '.join(sorted(known))}")
        if isinstance(value, str):
            value = unquoted(value) if isinstance(known[key], str) else python_value(value)
        if isinstance(value, dict) != isinstance(known[key], dict):
            raise ValueError(f"{source}: {name} is {'not ' * isinstance(value, dict)}a group of keys")
        if isinstance(value, dict):
            content[key] = value = CfgNode(value)
            keys |= checked_keys(known[key], value, f"{name}.", source)
            continue
        keys.add(name)
        if value is None and known[key] is not None:
            raise ValueError(f"{source}: {name} is None; give it a value, the default is {known[key]!r}")
        if isinstance(known[key], float) and type(value) is int:
            try:
                value = float(value)
            except OverflowError:
                raise ValueError(f"{source}: {name} is a number too large to compute with") from None
        check_type(value, known[key], f"{source}: {name}")
        for number in floats(value):
            if not math.isfinite(number):
                raise ValueError(f"{source}: {name} is {number}; set it to a finite number")
        content[key] = repr(value) if isinstance(value, str) else value  # yacs reads texts as Python
    return keys


def floats(value: Any) -> list[float]:
    """The floats in a value, those in its lists too."""
    if isinstance(value, (list, tuple)):
        return [number for part in value for number in floats(part)]
    return [value] if isinstance(value, float) else []


def unquoted(text: str) -> str:
    """A text without the quotes around all of it, which yacs would take off too."""
    quote = text[:1]
    is_quoted = quote in ("'", '"') and len(text) > 1 and text[-1] == quote and quote not in text[1:-1]
    return unquoted(text[1:-1]) if is_quoted else text


def python_value(text: str) -> Any:
    """What ``text`` is in Python, or true and false as in YAML; a plain word is a text."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
