"""The arguments of one run: CoOp's flags, then KEY VALUE pairs. Imports nothing that takes time."""

import argparse
from collections.abc import Sequence


def parse_args(argv: Sequence[str] | None = None, description: str | None = None) -> argparse.Namespace:
    """Reads a run's command line; ``--seed 0`` is a seed here, and ``--load-epoch`` also takes the word last.

    Args:
        argv: the words; None: those of this process.
        description: for ``--help``.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    args = parser.parse_args(argv)
    args.opts = args.opts[1:] if args.opts[:1] == ["--"] else args.opts
    return args


def epoch(text: str) -> int | str:
    """Type of ``--load-epoch``."""
    return text if text == "last" else int(text)
