"""Pictures of the tables as PNG and SVG, readable in grey. Needs matplotlib, the extra `plots`."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from fileio import atomic_write
from reporting.curves import class_changes
from reporting.plots.accuracy import draw_bars, draw_few_shot, draw_scatter
from reporting.plots.runs import draw_class_changes, draw_losses, loss_curves
from reporting.plots.style import STYLE
from reporting.tables import COLUMNS, Table, related

LONGEST = 180  # bytes of a file's name without number, suffix and what marks it as unfinished; 255 in all


def draw_all(tables: Sequence[Table], methods: Sequence[str]) -> dict[str, Figure]:
    """Every picture for which there are runs, by file name.

    Args:
        tables: of `reporting.tables.make_tables`.
        methods: published ones to draw beside.
    """
    figures: dict[str, Figure] = {}
    with rc_context(STYLE):
        for kind, columns in COLUMNS.items():
            column = columns[-1]  # HM, or the only one
            for group in related([table for table in tables if table.key.kind == kind]):
                if any(column in row.cells for table in group for row in table.rows):
                    name = unused(f"{kind}_{column.lower()}", figures)
                    figures[name] = draw_bars(group, methods, column)
        for group in related([table for table in tables if table.key.kind == "base2new"]):
            if any("HM" in row.cells for table in group for row in table.rows):
                figures[unused("base2new_scatter", figures)] = draw_scatter(group, methods)
        for group in related([table for table in tables if table.key.kind == "few_shot"]):
            if any(len(table.columns) > 1 for table in group):
                figures[unused("few_shot", figures)] = draw_few_shot(group)
        if curves := loss_curves(tables):
            figures["training"] = draw_losses(curves)
        grouped = defaultdict(list)
        for table, dataset, column, changes in class_changes(tables):
            name = f"classes_{table.key.kind}_{table.method}_{dataset}"
            grouped[name, id(table)].append((table, dataset, column, changes))
        for (name, _), panels in grouped.items():
            figures[unused(name, figures)] = draw_class_changes(panels)
    return figures


def unused(name: str, taken: dict[str, Figure]) -> str:
    """The name as a file name, cut to what file systems allow, with a number if it is taken."""
    name = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
    name = found = name.encode()[:LONGEST].decode(errors="ignore")
    number = len(taken)
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found


def save(figures: dict[str, Figure], folder: Path) -> list[Path]:
    """Writes each picture as PNG and as SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with rc_context(STYLE):
        for name, figure in figures.items():
            for suffix, more in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
                paths.append(folder / f"{name}.{suffix}")
                with atomic_write(paths[-1], sync=False) as file:
                    figure.savefig(file, format=suffix, bbox_inches="tight", **more)
    return paths
