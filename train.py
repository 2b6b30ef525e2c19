"""One run: reads the configurations, builds the trainer, trains or evaluates. The command line is CoOp's.

    python train.py <arguments of a run> [--then <arguments of another run> ...]

Runs after --then follow in the same process, which saves starting Python and torch again; each has its own
folder and log, and its results are those of a process of its own.
"""

import sys

if __name__ == "__main__":  # before the other imports: Ctrl-C ends these with a line, too
    import command_line

    command_line.run("train")

import gc
import importlib
import os
import shlex
from pathlib import Path

from command_line import one_line_errors
from runner.arguments import parse_args
from runner.process import set_up_process

MEMORY = (
    "lower DATALOADER.TRAIN_X.BATCH_SIZE, DATALOADER.TEST.BATCH_SIZE, DATALOADER.NUM_WORKERS, "
    "DATALOADER.CACHE_MB or TRAIN.TEXT_CACHE_MB"
)


def choose_dassl() -> None:
    """Puts the original Dassl before ours where ``DASSL_PATH`` in the environment names it.

    Raises:
        ValueError: it is not there, or cannot be imported.
    """
    original = os.environ.get("DASSL_PATH")
    if original and not (Path(original) / "dassl" / "__init__.py").is_file():
        raise ValueError(f'DASSL_PATH is "{original}", which holds no package dassl; unset it or correct it')
    if original and original not in sys.path:
        sys.path.insert(0, original)
    if original:
        try:
            importlib.import_module("dassl.engine")
        except Exception as error:  # whatever it is, it is the other Dassl's
            raise ValueError(
                f'the Dassl in "{original}" (from DASSL_PATH) cannot be imported: {error!r}; README.md says '
                "under Original Dassl what it needs"
            ) from error


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
    parsed = [parse_args(words, __doc__) for words in runs]
    set_up_process()
    choose_dassl()
    from runner.run import run

    for number, (args, words) in enumerate(zip(parsed, runs, strict=True)):
        if number:
            gc.collect()  # the last run's model makes room for the next one's
        run(args, shlex.join(["python", "train.py", *words]))
    return 0
