"""Collect finished runs: mean and spread of a folder of seeds, or the papers' tables of all below a root.

    python parse_test_res.py output/base2new/train_base/caltech101/shots_16/HeBA/base2new
    python parse_test_res.py output/base2new/test_new/caltech101/shots_16/HeBA/base2new --test-log
    python parse_test_res.py output/base2new/train_base/caltech101/shots_16/HeBA --multi-exp
    python parse_test_res.py output --format markdown --vs HeBA LwEIB PromptSRC

The first three are the CoOp family's calls and print its lines; one seed alone has no spread, here as in
the tables. The last finds trainers, data sets, shots and seeds by itself (base-to-novel, cross-dataset,
domain generalisation, few-shot; runs of this repository, LwEIB, MMA, CoOp, MaPLe, PromptSRC, KgCoOp, TCP,
DPC, HPT, TextRefiner, CLAP) and sets published results beside: the number, in brackets by how much ours is
above it. A run is read from its results.json if there is one, else from its log, and counts for the data
set, seed and classes that this names. What is not counted is named, with the reason.
"""

import sys

if __name__ == "__main__":  # before the other imports: Ctrl-C ends these with a line, too
    import command_line

    command_line.run("parse_test_res")

import argparse
import shutil
from pathlib import Path

from command_line import Parser, fail, one_line_errors
from reporting import compare, family, machine, published, render
from reporting.command import not_a_folder, print_lines, print_strays
from reporting.layout import find_places
from reporting.tables import Table, make_tables, overviews

FORMATS = ("text", "markdown", "latex", "csv", "json")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=__doc__, formatter_class=raw)
    parser.add_argument(
        "directory", type=Path, nargs="+", help="holds seed1, seed2, …; or runs anywhere below"
    )
    parser.add_argument("--ci95", action="store_true", help="spread: 1.96 * std / sqrt(n) instead of std")
    parser.add_argument("--test-log", action="store_true", help="read tests (eval_only), not training runs")
    parser.add_argument("--multi-exp", action="store_true", help="each subdirectory is an experiment")
    parser.add_argument("--keyword", default="accuracy", help="which number: accuracy, error, macro_f1, …")
    parser.add_argument("--format", default="text", choices=FORMATS, help="how to print the tables")
    vs = "published methods beside (default: HeBA LwEIB MaPLe and the same method; no name: none)"
    parser.add_argument("--vs", nargs="*", metavar="METHOD", help=vs)
    parser.add_argument("--cost", action="store_true", help="columns: trained weights, seconds, memory")
    return parser.parse_args(argv)


@one_line_errors()
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without ± in its encoding shows a question mark
    args.vs = args.vs and published.choose(args.vs)
    if wrong := not_a_folder(args.directory):
        return fail(wrong)
    places, strays, repeated = find_places(args.directory)
    # The family's question is about a seed's folder or the one above; ours about whatever lies deeper.
    runs = [place.folder for place in places] + list(strays)
    deeper = [folder for folder in runs if not {folder, folder.parent} & set(args.directory)]
    if args.multi_exp or not deeper:
        if args.format != "text":
            return fail(f"--format {args.format} is for tables; give a folder above those of the seeds")
        show = family.show_experiments if args.multi_exp else family.show_experiment
        options = (args.keyword, args.test_log, args.ci95, print_lines)
        directories = family.given_once(args.directory, args.multi_exp, print_lines)
        found = [show(directory, *options) for directory in directories]
        has_result = any(mean is not None for mean in found)
    else:
        tables = make_tables(places, args.keyword, args.ci95)
        has_result = any(row.cells for table in tables for row in table.rows)
        print_tables(tables, args)
        print_strays(strays, repeated, "table")
    if not has_result:
        where = ", ".join(str(directory) for directory in args.directory)
        return fail(
            f"no finished run in {where}: give the folder that holds seed1, seed2, …, the one above "
            "with --multi-exp, or one that holds runs where the scripts put them"
        )
    return 0


def print_tables(tables: list[Table], args: argparse.Namespace) -> None:
    """Prints all tables, then those that compare the methods."""
    tables = tables + overviews(tables, compare.USUAL if args.vs is None else args.vs)
    if args.format == "json":
        print_lines(machine.to_json(tables, args.vs))
    elif args.format == "csv":
        print_lines(machine.to_csv(tables, args.vs).rstrip("\n"))
        notes = [note for t in tables for note in [*t.notes, *compare.published_notes(t, args.vs)]]
        for note in dict.fromkeys(notes):
            print_lines(note, file=sys.stderr)
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for table in tables:
            print_lines(render.render(table, args.format, args.vs, args.ci95, args.cost, width))
