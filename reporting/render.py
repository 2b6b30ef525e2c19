"""Tables for people: text, markdown, LaTeX and HTML."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tabulate import tabulate

from reporting import published
from reporting.collect import KINDS
from reporting.compare import any_known, beside, methods_for, published_notes
from reporting.published import Number
from reporting.tables import COLUMNS, Cell, Row, Table
from reporting.text import visible

STYLES = {"text": "simple", "markdown": "github", "latex": "latex_booktabs", "html": "html"}
MISSING = "—"
MARK = "†"  # a published number that contradicts its own table
COSTS = {  # name in a record: title, how to show it
    "parameters": ("Trained weights", lambda value: f"{value:,.0f}"),
    "train_seconds": ("Training s", lambda value: f"{value:,.1f}"),
    "test_seconds": ("Test s", lambda value: f"{value:,.1f}"),
    "memory": ("Peak MiB", lambda value: f"{value / 2**20:,.0f}"),
}
LATEX = {"±": r"$\pm$", MISSING: "--", MARK: r"$^{\dagger}$", "–": "--", "Δ": r"$\Delta$"}


@dataclass
class Grid:
    """A table's cells as text, in groups of columns that stay together, and its footnotes."""

    groups: list[tuple[str, list[str], list[list[str]]]] = field(
        default_factory=list
    )  # title, heads, columns
    footnotes: list[str] = field(default_factory=list)


def title(table: Table, ci95: bool) -> str:
    """What the table shows, in one line."""
    key = table.key
    what = KINDS[key.kind] + (f" from {key.source}" if key.source else "")
    over = f"{visible(table.keyword)} in %"
    if any(cell.spread is not None for row in table.rows for cell in row.cells.values()):
        over += f", mean ± {'1.96 std / √n' if ci95 else 'population std'} over seeds"
    if table.is_overview:
        return f"{what}, all methods: {over}"
    return f"{what}: {table.method}{table.shots}, {visible(key.root)}: {over}"


def has_seeds(table: Table) -> bool:
    """Whether any cell is of one data set alone, and so of seeds."""
    return any(cell.seeds for row in table.rows for cell in row.cells.values())


def make_grid(table: Table, chosen: Sequence[str] | None, with_cost: bool) -> Grid:
    """The table's cells as text."""
    grid = Grid()
    contradictions: list[str] = []
    first = "Method" if table.is_overview else "Data set"
    grid.groups.append(("", [first], [[row_name(table, row) for row in table.rows]]))
    columns = [
        name
        for name in table.columns
        if name in COLUMNS.get(table.key.kind, []) or any(name in row.cells for row in table.rows)
    ]
    shown = [[show_cell(row, name, contradictions) for row in table.rows] for name in columns]
    grid.groups.append(("", list(columns), shown))
    if has_seeds(table) or not table.is_overview:
        grid.groups.append(("", ["Seeds"], [[count_seeds(row, columns) for row in table.rows]]))
    if table.is_comparable and not table.is_overview:
        methods = methods_for(table, chosen)
        if chosen or any_known(table, methods):  # nothing is published of the demo's data sets, say
            grid.groups += [published_group(table, method, contradictions) for method in methods]
    names = [name for name in COSTS if any(name in row.cost for row in table.rows)]
    if names and (with_cost or table.is_overview):
        shown = [
            [COSTS[name][1](row.cost[name]) if name in row.cost else MISSING for row in table.rows]
            for name in names
        ]
        grid.groups.append(("", [COSTS[name][0] for name in names], shown))
    grid.footnotes = list(table.notes) + published_notes(table, chosen)
    if names and table.is_overview:
        grid.footnotes.append("seconds and peak memory (on a GPU: the GPU's) are means over the runs")
    grid.footnotes += [f"{MARK} {text}" for text in dict.fromkeys(contradictions)]
    return grid


def published_group(
    table: Table, method: str, contradictions: list[str]
) -> tuple[str, list[str], list[list[str]]]:
    """A method's columns: its number, and in brackets by how much ours is above it.

    Columns of which nothing is known are left out, but for the last: so nobody looks for the method in vain.
    """
    heads, columns = [], []
    names = list(published.COLUMNS[table.key.kind])
    for name in names:
        numbers = [beside(table, row, method, name) for row in table.rows]
        if not any(numbers) and (columns or name != names[-1]):
            continue
        heads.append(name)
        columns.append([])
        for row, number in zip(table.rows, numbers, strict=True):
            columns[-1].append(show_number(number, row.cells.get(name)))
            if number and number.contradiction:
                contradictions.append(f"{method} {row.name}: {number.contradiction} ({number.source})")
    return method, heads, columns


def row_name(table: Table, row: Row) -> str:
    return f"{row.name} (source)" if row.name == table.key.source else row.name


def show_cell(row: Row, column: str, contradictions: list[str]) -> str:
    cell = row.cells.get(column)
    if cell is None:
        return MISSING
    if cell.contradiction:
        contradictions.append(f"{row.name}: {cell.contradiction}")
        return f"{cell.mean:.2f}{MARK}"
    return f"{cell.mean:.2f}" + ("" if cell.spread is None else f" ± {cell.spread:.2f}")


def show_number(number: Number | None, ours: Cell | None) -> str:
    if number is None:
        return MISSING
    shown = f"{number.value:.2f}{MARK if number.contradiction else ''}"
    return shown if ours is None else f"{shown} ({ours.mean - number.value:+.2f})"


def count_seeds(row: Row, columns: Sequence[str]) -> str:
    """How many seeds stand behind each cell, in the order of the columns; HM follows from its two.

    Nothing for an average over data sets and for published numbers.
    """
    if not any(cell.seeds for cell in row.cells.values()):
        return ""
    counts = [len(row.cells[c].seeds) if c in row.cells else 0 for c in columns if c != "HM" and "(" not in c]
    return "/".join(str(count) for count in counts)


def render(
    table: Table, style: str, chosen: Sequence[str] | None, ci95: bool, with_cost: bool, width: int | None
) -> str:
    """A table with its title and notes.

    Args:
        style: text, markdown or latex.
        chosen: published methods; None for the usual ones.
        with_cost: with columns for what the runs took; an overview has them anyway.
        width: of the terminal; wider text is broken between groups of columns.
    """
    grid = make_grid(table, chosen, with_cost)
    blocks = [body(block, style) for block in wrapped(grid.groups, style, width)]
    heading, notes = title(table, ci95), grid.footnotes
    if style == "latex":
        lines = [r"% needs \usepackage{booktabs}", f"% {heading}", *blocks, *(f"% {note}" for note in notes)]
    elif style == "markdown":
        lines = [f"### {heading}", "", *blocks, "", *(f"- {note}" for note in notes)]
    else:
        lines = [heading, "", "\n\n".join(blocks), "", *notes]
    return "\n".join(lines).rstrip() + "\n"


def to_html(grid: Grid) -> str:
    """The grid as an HTML table."""
    return body(grid.groups, "html")


def wrapped(groups: list, style: str, width: int | None) -> list[list]:
    """The groups of columns, broken into blocks that fit the width; each begins with the rows' names."""
    names, *rest = groups
    blocks = [[names]]
    for group in rest:
        widest = max(map(len, body([*blocks[-1], group], style).splitlines()))
        if style == "text" and width and widest > width and len(blocks[-1]) > 1:
            blocks.append([names])
        blocks[-1].append(group)
    return blocks


def body(groups: list, style: str) -> str:
    """Groups of columns by tabulate."""
    between = "\n" if style in ("text", "html") else " "
    heads = [f"{name}{between}{head}" if name else head for name, heads, _ in groups for head in heads]
    columns = [column for _, _, columns in groups for column in columns]
    align = ["left", *["right"] * (len(heads) - 1)]
    rows = list(zip(*columns, strict=True))
    if style == "markdown":  # a | in a name would end its cell
        heads, *rows = [[cell.replace("|", "\\|") for cell in cells] for cells in (heads, *rows)]
    text = tabulate(rows, heads, tablefmt=STYLES[style], colalign=align, disable_numparse=True)
    if style == "latex":
        for sign, command in LATEX.items():
            text = text.replace(sign, command)
    return text
