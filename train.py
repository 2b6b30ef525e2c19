"""One run: reads the configurations, builds the trainer, trains or evaluates. The command line is CoOp's."""

import argparse
import ast
import contextlib
import importlib
import logging
import os
import pkgutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
USAGE_ERROR = 2
INTERRUPTED = 130


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """CoOp's flags; ``--seed 0`` is a seed here, and ``--load-epoch`` also takes the word last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="", help="path to datasets")
    parser.add_argument("--output-dir", default="", help="output directory")
    parser.add_argument("--resume", default="", help="run folder from which training resumes")
    parser.add_argument("--seed", type=int, help="a value of 0 or more fixes the seed")
    parser.add_argument("--source-domains", nargs="+", help="source domains")
    parser.add_argument("--target-domains", nargs="+", help="target domains")
    parser.add_argument("--transforms", nargs="+", help="data augmentation methods")
    parser.add_argument("--config-file", default="", help="configuration of the method")
    parser.add_argument("--dataset-config-file", default="", help="configuration of the data set")
    parser.add_argument("--trainer", default="", help="name of the trainer, e.g. HeBA")
    parser.add_argument("--backbone", default="", help="CLIP model: a name (ViT-B/16) or a path to weights")
    parser.add_argument("--head", default="", help="name of head")
    parser.add_argument("--eval-only", action="store_true", help="evaluation only")
    parser.add_argument("--model-dir", default="", help="run folder whose weights are evaluated")
    parser.add_argument(
        "--load-epoch", type=epoch, help="epoch to load: a number or last (default: the best model)"
    )
    parser.add_argument("--no-train", action="store_true", help="do not call trainer.train()")
    parser.add_argument(
        "opts", default=[], nargs=argparse.REMAINDER, help="configuration options: KEY VALUE …"
    )
    return parser.parse_args(argv)


def epoch(text: str) -> int | str:
    """Type of ``--load-epoch``."""
    return text if text == "last" else int(text)


def setup_cfg(args: argparse.Namespace) -> Any:
    """Dassl's defaults, then the data set's file, the method's file, the flags, and KEY VALUE pairs.

    Raises:
        ValueError: a file or key is unknown, a value has the wrong type, the backbone is unknown.
    """
    from clip import clip
    from dassl.config import get_cfg_default

    cfg = get_cfg_default()
    extend_cfg(cfg)
    given = merge_file(cfg, "--dataset-config-file", args.dataset_config_file)
    given |= merge_file(cfg, "--config-file", args.config_file)
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
            cfg.merge_from_list([key, value])
    given |= merge_pairs(cfg, args.opts)
    resolution = clip.input_resolution(cfg.MODEL.BACKBONE.NAME)
    if "INPUT.SIZE" not in given:
        cfg.INPUT.SIZE = (resolution, resolution)
    cfg.freeze()
    return cfg


def extend_cfg(cfg: Any) -> None:
    """Declares the keys that Dassl does not have: the family's, ours, and those of each file in trainers/."""
    from yacs.config import CfgNode

    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base or new
    cfg.MODEL.BACKBONE.QUICK_GELU = None  # True or False where the weights' file does not tell
    # CoOp declares these in its train.py; its trainer files, dropped into trainers/, need them.
    cfg.TRAINER.COOP = CfgNode(
        {"N_CTX": 16, "CSC": False, "CTX_INIT": "", "PREC": "fp16", "CLASS_TOKEN_POSITION": "end"}
    )
    cfg.TRAINER.COCOOP = CfgNode({"N_CTX": 16, "CTX_INIT": "", "PREC": "fp16"})
    import_all("datasets")
    for module in import_all("trainers"):
        if hasattr(module, "extend_cfg"):
            module.extend_cfg(cfg)


def import_all(package: str) -> list[Any]:
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


def merge_file(cfg: Any, flag: str, path: str) -> set[str]:
    """Merges a YAML file; returns the keys that it sets."""
    import yaml
    from yacs.config import CfgNode

    if not path:
        return set()
    if not Path(path).is_file():
        there = ", ".join(sorted(file.stem for file in Path(path).parent.glob("*.yaml"))) or "none"
        raise ValueError(f'{flag} "{path}" does not exist; configurations there: {there}')
    try:
        with open(path, encoding="utf-8") as file:
            content = CfgNode.load_cfg(file)
    except (yaml.YAMLError, ValueError, AttributeError) as error:
        raise ValueError(
            f'{flag} "{path}" is not a YAML configuration: {" ".join(str(error).split())}'
        ) from error
    return merge(cfg, content, f'{flag} "{path}"')


def merge_pairs(cfg: Any, pairs: list[str]) -> set[str]:
    """Merges ``KEY VALUE …`` from the command line; returns the keys."""
    from yacs.config import CfgNode

    pairs = pairs[1:] if pairs[:1] == ["--"] else pairs
    if len(pairs) % 2:
        raise ValueError(
            f"options must be pairs KEY VALUE, but {len(pairs)} words were given: {' '.join(pairs)}"
        )
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        content: Any = value
        with contextlib.suppress(ValueError, SyntaxError):  # a plain word is a string
            content = ast.literal_eval(value)
        for part in reversed(key.split(".")):
            content = CfgNode({part: content})
        merge(cfg, content, f"command line: {key} {value}")
    return set(pairs[::2])


def merge(cfg: Any, content: Any, source: str) -> set[str]:
    """Merges a tree of settings; returns its dotted keys.

    Raises:
        ValueError: a key is unknown, or a value has the wrong type; the message names the source.
    """
    keys = checked_keys(cfg, content, "", source)
    try:
        cfg.merge_from_other_cfg(content)
    except (ValueError, AssertionError, KeyError) as error:
        raise ValueError(f"{source}: {error}") from error
    return keys


def checked_keys(known: Any, content: Any, prefix: str, source: str) -> set[str]:
    """The dotted keys of ``content``, all declared; whole numbers become floats where those belong."""
    keys = set()
    for key, value in content.items():
        name = f"{prefix}{key}"
        if key not in known:
            raise ValueError(f"{source}: unknown key {name}; known there: {', '.join(sorted(known))}")
        if isinstance(value, dict) != isinstance(known[key], dict):
            raise ValueError(f"{source}: {name} is {'not ' * isinstance(value, dict)}a group of keys")
        if isinstance(value, dict):
            keys |= checked_keys(known[key], value, f"{name}.", source)
            continue
        keys.add(name)
        if isinstance(known[key], float) and type(value) is int:
            content[key] = float(value)
    return keys


def last_epoch(model_dir: str) -> int:
    """The last epoch whose weights lie in a finished run's folder."""
    folder = Path(model_dir)
    epochs = [int(file.name.rsplit("-", 1)[1]) for file in folder.glob("*/model.pth.tar-*")]
    if (folder / "resume.pth.tar").exists():
        raise ValueError(
            f'training in "{model_dir}" is not finished; run its training command again, it resumes'
        )
    if not epochs:
        raise FileNotFoundError(f'no trained model in "{model_dir}" (from --model-dir); train first')
    return max(epochs)


def loaded_files(args: argparse.Namespace) -> dict[str, str]:
    """SHA-256 of the files that an evaluation loads: results of other weights must not pass for its own."""
    from trainers.common.record import file_digest

    if not (args.eval_only and args.model_dir):
        return {}
    name = "model-best.pth.tar" if args.load_epoch is None else f"model.pth.tar-{args.load_epoch}"
    return {
        str(path.parent.name): file_digest(path) for path in sorted(Path(args.model_dir).glob(f"*/{name}"))
    }


def is_finished(cfg: Any, args: argparse.Namespace, loaded: dict[str, str]) -> bool:
    """Whether this very run is finished already.

    Raises:
        ValueError: the output folder holds a finished run of something else; the differences are named.
    """
    from trainers.common.record import differing_settings, read_record

    record = read_record(cfg.OUTPUT_DIR)
    if record is None:
        return False
    different = differing_settings(cfg, record)
    if record.get("eval_only") != args.eval_only:
        different.append(f"eval_only {record.get('eval_only')} != {args.eval_only}")
    if record.get("loaded") != loaded:
        different.append("the evaluated weights")
    if different:
        raise ValueError(
            f'"{cfg.OUTPUT_DIR}" holds a finished run with other settings ({"; ".join(different)}); '
            "choose another output folder or delete that one"
        )
    return True


def print_args(args: argparse.Namespace, cfg: Any) -> None:
    """Dassl's opening lines of a log."""
    stars = "*" * 15
    print(f"{stars}\n** Arguments **\n{stars}")
    for key, value in sorted(vars(args).items()):
        print(f"{key}: {value}")
    stars = "*" * 12
    print(f"{stars}\n** Config **\n{stars}\n{cfg}")


def run(args: argparse.Namespace) -> None:
    """Builds and runs the trainer; ``results.json`` comes last."""
    with user_errors():
        cfg = setup_cfg(args)
        if args.load_epoch == "last":
            args.load_epoch = last_epoch(args.model_dir)
        loaded = loaded_files(args)
        if not args.no_train and is_finished(cfg, args, loaded):
            print(
                f"Finished already: {Path(cfg.OUTPUT_DIR) / 'results.json'} (delete the folder to run again)"
            )
            return
        from dassl.engine import build_trainer
        from dassl.utils import collect_env_info, set_random_seed, setup_logger

        if cfg.SEED >= 0:
            print(f"Setting fixed seed: {cfg.SEED}")
            set_random_seed(cfg.SEED)
        setup_logger(cfg.OUTPUT_DIR)
        # Does nothing where Dassl has set up logging; the original Dassl prints, and has not.
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        print_args(args, cfg)
        print(f"Collecting env info ...\n** System info **\n{collect_env_info()}\n")
        trainer = build_trainer(cfg)
        if args.eval_only:
            trainer.load_model(args.model_dir, epoch=args.load_epoch)
    if args.no_train:
        return
    start = time.time()
    if args.eval_only:
        trainer.test()
    else:
        trainer.train()
    from trainers.common.record import describe_run, write_record

    how = {"eval_only": args.eval_only, "model_dir": args.model_dir, "loaded": loaded}
    how |= {
        "epochs": args.load_epoch if args.eval_only else cfg.OPTIM.MAX_EPOCH,
        "seconds": time.time() - start,
    }
    write_record(cfg.OUTPUT_DIR, describe_run(cfg, trainer) | how)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Before the first batch it is mostly a setting or a missing file: one line instead of a traceback."""
    try:
        yield
    except (ValueError, LookupError, OSError) as error:
        if os.environ.get("HEBA_TRACEBACK"):
            raise
        message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        print(f"error: {' '.join(message.split())} (HEBA_TRACEBACK=1 shows where)", file=sys.stderr)
        raise SystemExit(USAGE_ERROR) from error


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 2 a user's mistake, 130 interrupted."""
    args = parse_args(argv)
    # Before torch is loaded: idle threads sleep. Spinning ones starve loader workers and other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    original = os.environ.get("DASSL_PATH")
    if original and not (Path(original) / "dassl").is_dir():
        print(
            f'error: DASSL_PATH is "{original}", which holds no folder dassl; unset it or correct it',
            file=sys.stderr,
        )
        return USAGE_ERROR
    if original:
        sys.path.insert(0, original)
    try:
        run(args)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
