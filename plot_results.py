"""Pictures of finished runs as PNG and SVG, and one page with tables, pictures and commands.

    python plot_results.py output
    python plot_results.py output/base2new output/few_shot --out plots --vs LwEIB PromptSRC
    python plot_results.py output --html report.html

HM by data set and base against novel beside published methods, cross-dataset and domain generalisation,
few-shot curves, training losses, and what each class gained over zero-shot CLIP (where both have run). The
page opens without a network. Needs matplotlib: pip install "matplotlib>=3.8"
"""

import sys

if __name__ == "__main__":  # before the other imports: Ctrl-C ends these with a line, too
    import command_line

    command_line.run("plot_results")

import argparse
import os
from pathlib import Path

from command_line import Parser, fail, one_line_errors
from fileio import write_text
from reporting import compare, published
from reporting.command import not_a_folder, print_lines, print_strays
from reporting.layout import find_places
from reporting.page import make_page
from reporting.read import RUN_FILE
from reporting.tables import make_tables, overviews
from reporting.text import visible


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=__doc__, formatter_class=raw)
    parser.add_argument("directory", type=Path, nargs="+", help="runs lie anywhere below")
    parser.add_argument(
        "--out", type=Path, default=Path("plots"), help="folder for the pictures (default: plots)"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the page as well")
    parser.add_argument("--ci95", action="store_true", help="spread: 1.96 * std / sqrt(n) instead of std")
    parser.add_argument("--keyword", default="accuracy", help="which number: accuracy, macro_f1, …")
    parser.add_argument(
        "--vs", nargs="*", metavar="METHOD", help="published methods (default: HeBA LwEIB MaPLe)"
    )
    return parser.parse_args(argv)


@one_line_errors()
def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        from reporting import plots
    except ModuleNotFoundError as error:
        return fail(f'{error}; pictures need matplotlib: pip install "matplotlib>=3.8"')
    args.vs = args.vs and published.choose(args.vs)
    if wrong := not_a_folder(args.directory):
        return fail(wrong)
    places, strays, repeated = find_places(args.directory)
    taken = {os.path.realpath(folder) for folder in [*args.directory, *(p.folder for p in places)]}
    if os.path.realpath(args.out) in taken:
        return fail(f"--out {args.out} is a folder of runs that was given; name another one for the pictures")
    if args.html and RUN_FILE.fullmatch(Path(os.path.realpath(args.html)).name):
        return fail(f"--html {args.html}: a file of a run is called so; name another one for the page")
    print_strays(strays, repeated, "picture")
    tables = make_tables(places, args.keyword, args.ci95)
    if not any(row.cells for table in tables for row in table.rows):
        where = ", ".join(str(directory) for directory in args.directory)
        return fail(f"no finished run where the scripts put runs below {where}")
    methods = compare.USUAL if args.vs is None else args.vs
    figures = plots.draw_all(tables, methods)
    try:
        written = plots.save(figures, args.out)
        if args.html:
            command = ["python", "plot_results.py", *(sys.argv[1:] if argv is None else argv)]
            page = make_page(tables, overviews(tables, methods), figures, args.vs, args.ci95, command)
            args.html.parent.mkdir(parents=True, exist_ok=True)
            write_text(args.html, page)
            written.append(args.html)
    except OSError as error:
        return fail(f"cannot write: {error}; make room, or name other places with --out and --html")
    for path in written:
        print_lines(visible(path))
    return 0
