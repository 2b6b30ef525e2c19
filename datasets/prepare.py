"""Downloads, unpacks, lays out and checks the data sets: ``python -m datasets.prepare``.

    python -m datasets.prepare caltech101 eurosat          these two, into ./data
    python -m datasets.prepare all --root /data            all fifteen and the descriptions of their classes
    python -m datasets.prepare --check                     what is there, what is not, what to do
    python -m datasets.prepare descriptions                the LLM descriptions of all data sets
    python -m datasets.prepare descriptions dtd            of this one alone
    python -m datasets.prepare dtd descriptions            this data set, and its descriptions

A second call continues what a first one could not finish. Archives that were downloaded by hand are used
where they lie in the data set's folder. Exit status: 0 everything asked for is ready, 1 something is not,
2 it could not be tried (a wrong name, no room, a folder that cannot be written), 130 interrupted.
"""

import sys

if __name__ == "__main__":  # before the other imports: Ctrl-C ends these with a line, too
    import command_line

    command_line.run("datasets.prepare")

import argparse
import logging
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from command_line import one_line_errors

if TYPE_CHECKING:
    from datasets.preparation.sources import Source

READY, NOT_READY = 0, 1
DESCRIPTIONS = "descriptions"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="data sets by the names of their YAML files, all, descriptions",
    )
    parser.add_argument(
        "--root", default=os.environ.get("DATA") or "data", help="data root (default: $DATA, data)"
    )
    parser.add_argument(
        "--check", action="store_true", help="only look what is there; writes and fetches nothing"
    )
    parser.add_argument(
        "--mirror",
        default=os.environ.get("HEBA_DATA_MIRROR", ""),
        metavar="URL",
        help="try URL/<folder>/<file name> before all other sources (default: $HEBA_DATA_MIRROR)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the archives in <folder>/.prepare/downloads"
    )
    parser.add_argument(
        "--descriptions-from",
        choices=("lweib", "cupl"),
        default="lweib",
        help="lweib: what HeBA and LwEIB train on (default); cupl: CuPL's own sentences",
    )
    args = parser.parse_args(argv)
    if not args.names and not args.check:
        parser.error("name what to prepare: data sets, all, descriptions; or --check")
    return args


def run(args: argparse.Namespace) -> int:
    """Checks or prepares; returns the exit status."""
    from datasets.preparation.sources import find_source, load_sources

    if args.mirror and not args.mirror.lower().startswith(("http://", "https://")):
        raise ValueError(f'--mirror "{args.mirror}" (or HEBA_DATA_MIRROR) is no http:// or https:// address')
    known = load_sources()
    asked = {name.lower() for name in args.names}
    words = [name for name in args.names if name.lower() not in ("all", DESCRIPTIONS)]
    sources = list(dict.fromkeys(find_source(name, known) for name in words))
    everything = "all" in asked
    if everything or (not sources and args.check):
        sources = list(known)
    if args.check:
        return check(sources, args)
    wanted = sources  # data sets named after "descriptions": only the descriptions of these
    if DESCRIPTIONS in asked and not everything:
        before = [name.lower() for name in args.names].index(DESCRIPTIONS)
        wanted = list(dict.fromkeys(find_source(name, known) for name in args.names[:before]))
    ready = not wanted or prepare(wanted, args)
    if DESCRIPTIONS in asked or everything:
        ready &= describe(sources or list(known), args)
    return READY if ready else NOT_READY


def check(sources: "list[Source]", args: argparse.Namespace) -> int:
    """Prints the table; 0 if all are ready."""
    from datasets.preparation.check import survey, table
    from datasets.preparation.descriptions import described, is_described

    root = Path(args.root).expanduser()
    if not root.is_dir():
        print(f'The data root "{root}" does not exist; --root chooses another one.')
    reports = [survey(source, root) for source in sources]
    print(table(reports, command(args)))
    own = described(sources)
    names = [source.config for source in own]
    lacking = [source.config for source in own if not is_described(source, root)]
    if names:
        todo = f": prepare descriptions {' '.join(lacking)}" if lacking else ""
        print(f"descriptions: {len(names) - len(lacking)} of {len(names)} data sets{todo}")
    return READY if all(report.state == "ready" for report in reports) else NOT_READY


def command(args: argparse.Namespace) -> str:
    """How this program is called for the same data root."""
    root = "" if args.root == "data" else f" --root {shlex.quote(args.root)}"
    return f"python -m datasets.prepare{root}"


def prepare(sources: "list[Source]", args: argparse.Namespace) -> bool:
    """Prepares data sets one after the other; one that fails does not stop the others."""
    from datasets.preparation.check import Report, table
    from datasets.preparation.run import prepare as prepare_one
    from fileio.errors import NoRoom, one_line

    root = Path(args.root).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    reports = []
    for source in sources:
        try:
            report = prepare_one(source, root, mirror=args.mirror, keep=args.keep)
        except NoRoom:
            raise
        except OSError as error:
            report = Report(source, problems=[one_line(error)])
        reports.append(report)
    print(table(reports, command(args)))
    for report in reports:
        if report.state == "missing":
            print("", *(f"{report.source.name}: {problem}" for problem in report.problems), sep="\n")
    return all(report.state == "ready" for report in reports)


def describe(sources: "list[Source]", args: argparse.Namespace) -> bool:
    """Fetches the descriptions of data sets; one that fails does not stop the others."""
    from datasets.preparation.descriptions import described, prepare_descriptions
    from datasets.preparation.sources import find_source, load_sources
    from fileio.errors import NoRoom, one_line

    own = described(sources)
    if len(own) < len(sources):  # a variant of ImageNet: ImageNet's
        own = list(dict.fromkeys([*own, find_source("imagenet", load_sources())]))
    good = True
    for source in own:
        try:
            prepare_descriptions(source, Path(args.root), origin=args.descriptions_from, mirror=args.mirror)
        except NoRoom:
            raise
        except (OSError, ValueError) as error:
            good = False
            print(f"error: {source.config}: {one_line(error)}", file=sys.stderr)
    return good


@one_line_errors("the same command continues")
def main(argv: list[str] | None = None) -> int:
    """Returns the exit status."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "httpx2", "huggingface_hub"):  # they report each request and each retry
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return run(args)
