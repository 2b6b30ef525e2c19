"""One run: reads the configurations, builds the trainer, trains or evaluates. The command line is CoOp's.

    python train.py <arguments of a run> [--then <arguments of another run> ...]

Runs after --then follow in the same process, which saves starting Python and torch again; each has its own
folder and log, and its results are those of a process of its own.
"""

import sys

if __name__ == "__main__":  # before the other imports: Ctrl-C ends these with a line, too
    import command_line

    command_line.run("train")

import argparse
import contextlib
import gc
import logging
import os
import shlex
import time
from pathlib import Path
from typing import Any

from command_line import Output, names_file, one_line_errors
from runner.process import set_up_process

MEMORY = (
    "lower DATALOADER.TRAIN_X.BATCH_SIZE, DATALOADER.TEST.BATCH_SIZE, DATALOADER.NUM_WORKERS, "
    "DATALOADER.CACHE_MB or TRAIN.TEXT_CACHE_MB"
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """CoOp's flags; ``--seed 0`` is a seed here, and ``--load-epoch`` also takes the word last."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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


def print_args(args: argparse.Namespace, cfg: Any) -> None:
    """Dassl's opening lines of a log, and ours."""
    from runner.folder import OPENING

    stars = "*" * 15
    print(f"{stars}\n** Arguments **\n{stars}")
    for key, value in sorted(vars(args).items()):
        print(f"{key}: {value}")
    stars = "*" * 12
    print(f"{stars}\n** Config **\n{stars}\n{cfg}")
    print(OPENING)


def run(args: argparse.Namespace, argv: list[str]) -> None:
    """Builds and runs the trainer; ``results.json`` comes last."""
    from runner.config import check_named, setup_cfg
    from runner.folder import (
        alone_in,
        is_finished,
        last_epoch,
        loaded_files,
        saved_traceback,
        settle_precision,
    )
    from runner.phases import Phases
    from runner.record import write_record

    cfg = setup_cfg(args)
    check_named(cfg)
    folder = Path(cfg.OUTPUT_DIR)
    with names_file(cfg.OUTPUT_DIR), alone_in(folder), saved_traceback(folder):
        if args.load_epoch == "last":
            args.load_epoch = last_epoch(args.model_dir)
        notes = settle_precision(cfg, args)
        loaded = loaded_files(args)
        if not args.no_train and is_finished(cfg, args, loaded):
            print(f"Finished already: {folder / 'results.json'} (delete the folder to run again)")
            return
        phases = Phases()
        with phases.phase("build"):
            trainer = build(cfg, args, notes, loaded)
        if args.no_train:
            return
        trainer.test = phases.of("test", trainer.test)
        try:
            if args.eval_only:
                trainer.test()
            else:
                start = time.time()
                phases.of("train", trainer.train)()
                # a run that was cut and resumed counts its time from its first start
                phases.found["train"]["seconds_before"] = max(0.0, start - trainer.time_start)
                phases.found["train"]["start_epoch"] = trainer.start_epoch
            command = shlex.join(["python", "train.py", *argv])
            write_record(cfg, args, trainer, loaded=loaded, phases=phases.found, command=command)
            if not args.eval_only:
                say_how_to_predict(folder)
        finally:
            # The circle would leave the loaders' workers to the garbage collector, which waits 5 s for each.
            del trainer.test


def say_how_to_predict(folder: Path) -> None:
    """The last lines of a training: where its adapter lies, and the command that predicts with it."""
    from adapt.adapter_file import FILE_NAME

    for path in sorted(folder.glob(f"*/{FILE_NAME}")):
        print(f"The adapter is in {path}")
        print(f"Predict with it: python predict.py <pictures> --model-dir {shlex.quote(str(folder))}")


def build(cfg: Any, args: argparse.Namespace, notes: list[tuple[int, str]], loaded: dict[str, str]) -> Any:
    """Seeds, opens the log, writes ``notes`` to it, builds the trainer, and loads the weights to evaluate."""
    from dassl.engine import build_trainer
    from dassl.utils import collect_env_info, set_random_seed, setup_logger
    from runner.folder import check_loaded, check_model_dir

    if cfg.SEED >= 0:
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
    setup_logger(cfg.OUTPUT_DIR)
    # Does nothing where Dassl has set up logging; the original Dassl prints, and has not.
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if args.eval_only and args.model_dir:
        check_model_dir(cfg, args)
    print_args(args, cfg)
    for level, text in notes:
        logging.getLogger(__name__).log(level, text)
    print(f"Collecting env info ...\n** System info **\n{collect_env_info()}\n")
    trainer = build_trainer(cfg)
    if args.eval_only:
        if trainer.get_model_names() and not args.model_dir:
            raise ValueError("--eval-only needs --model-dir: there are no trained weights to evaluate")
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        if args.model_dir:
            check_loaded(args, trainer, loaded)
    return trainer


class Kept(Output):
    """stdout that stays open: the original Dassl's logger closes the stream that it was given."""

    def close(self) -> None:
        with contextlib.suppress(ValueError):  # at the end it may be closed already
            self.flush()


def choose_dassl() -> None:
    """Puts the original Dassl before ours where ``DASSL_PATH`` in the environment names it.

    Raises:
        ValueError: it is not there.
    """
    original = os.environ.get("DASSL_PATH")
    if original and not (Path(original) / "dassl" / "__init__.py").is_file():
        raise ValueError(f'DASSL_PATH is "{original}", which holds no package dassl; unset it or correct it')
    if original and original not in sys.path:
        sys.path.insert(0, original)


def split_runs(argv: list[str]) -> list[list[str]]:
    """The arguments of each run: what stands before, between and after ``--then``."""
    runs: list[list[str]] = [[]]
    for word in argv:
        if word == "--then":
            runs.append([])
        else:
            runs[-1].append(word)
    return runs


@one_line_errors("the same command goes on from the last saved state, if any", MEMORY)
def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0 done, 2 a mistake, a full disk or too little memory, 130 interrupted.

    A run that does not end well ends those after ``--then``, too.
    """
    runs = split_runs(sys.argv[1:] if argv is None else argv)
    parsed = [parse_args(words) for words in runs]
    console = sys.stdout
    set_up_process()
    choose_dassl()
    for number, (args, words) in enumerate(zip(parsed, runs, strict=True)):
        if number:
            logging.getLogger().handlers.clear()
            gc.collect()  # the last run's model makes room for the next one's
        sys.stdout = Kept(console)  # each run opens its own log
        run(args, words)
    return 0
