"""Pictures of accuracies: bars by data set, base against novel, few-shot curves."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reporting.collect import KINDS
from reporting.compare import beside
from reporting.plots.style import COLOURS, HATCHES, MARKERS, label_once, line_style, panels
from reporting.tables import AVERAGE, Cell, Table, labels
from reporting.text import visible


def draw_bars(tables: Sequence[Table], methods: Sequence[str], column: str) -> Figure:
    """A column by data set: ours with its spread over seeds, then the published methods."""
    names = list(dict.fromkeys(row.name for table in tables for row in table.rows))
    names = sorted(names, key=AVERAGE.__eq__)
    bars: list[tuple[str, dict[str, float], dict[str, float]]] = []
    for table, label in zip(tables, labels(tables), strict=True):
        cells = {row.name: row.cells[column] for row in table.rows if column in row.cells}
        heights = {name: cell.mean for name, cell in cells.items()}
        bars.append((label, heights, {name: error_bar(cell) for name, cell in cells.items()}))
    longest = max(tables, key=lambda table: len(table.rows))  # its average is that of the published bars
    for method in methods:
        numbers = {row.name: beside(longest, row, method, column) for row in longest.rows}
        if heights := {name: number.value for name, number in numbers.items() if number}:
            bars.append((f"{method} (published)", heights, {}))
    figure = Figure(figsize=(max(6, 0.22 * len(names) * (len(bars) + 1.5)), 3.6), layout="constrained")
    axes = figure.add_subplot()
    width = 0.84 / len(bars)
    places = bar_places(names, [heights for _, heights, _ in bars], width)
    for number, (label, heights, spreads) in enumerate(bars):
        there = [name for name in names if name in heights]
        axes.bar(
            [places[number, name] for name in there],
            [heights[name] for name in there],
            width,
            yerr=[spreads[name] for name in there] if spreads else None,
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#888888"},
            label=label,
            color=COLOURS[number % len(COLOURS)],
            edgecolor="white" if number == 0 else "black",
            linewidth=0.5,
            hatch=HATCHES[number % len(HATCHES)],
        )
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_ylabel(f"{column} (%)" if column == "HM" else f"{visible(tables[0].keyword)} (%)")
    axes.set_title(KINDS[tables[0].key.kind])
    axes.grid(axis="y", color="#dddddd")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def error_bar(cell: Cell) -> float:
    """The length of a cell's error bar; nan, which draws none, for one seed alone."""
    return math.nan if cell.spread is None else cell.spread


def bar_places(
    names: Sequence[str], heights: Sequence[dict[str, float]], width: float
) -> dict[tuple[int, str], float]:
    """Where each bar stands: those that a data set has side by side around its tick, without gaps."""
    places = {}
    for tick, name in enumerate(names):
        there = [number for number, found in enumerate(heights) if name in found]
        for position, number in enumerate(there):
            places[number, name] = tick + (position - (len(there) - 1) / 2) * width
    return places


def draw_scatter(tables: Sequence[Table], methods: Sequence[str]) -> Figure:
    """Base against novel: a small sign for each data set, a big one for the average; lines of equal HM."""
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    axes = figure.add_subplot()
    number = 0
    for table, label in zip(tables, labels(tables), strict=True):
        rows = [row for row in table.rows if "HM" in row.cells]
        if not rows:
            continue
        for row in rows:
            point = (row.cells["Base"].mean, row.cells["Novel"].mean)
            is_last = row is rows[-1]  # the average, or the only data set
            add_point(
                axes, point, number, label if is_last else None, is_big=bool(row.datasets) or len(rows) == 1
            )
        number += 1
    longest = max(tables, key=lambda table: len(table.rows))
    for method in methods:
        pair = [beside(longest, longest.rows[-1], method, half) for half in ("Base", "Novel")]
        if all(pair):
            add_point(
                axes, tuple(found.value for found in pair), number, f"{method} (published)", is_big=True
            )
            number += 1
    low, high = zip(axes.get_xlim(), axes.get_ylim(), strict=True)
    margin = 0.04 * (max(high) - min(low))  # no sign is cut by the frame
    add_hm_lines(axes, max(min(low) - margin, -1), min(max(high) + margin, 101))
    axes.set_xlabel("Base (%)")
    axes.set_ylabel("Novel (%)")
    axes.set_title("Base to novel; dotted: equal HM")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def add_point(axes: Axes, point: tuple[float, float], number: int, label: str | None, is_big: bool) -> None:
    axes.scatter(
        *point,
        s=90 if is_big else 16,
        marker=MARKERS[number % len(MARKERS)],
        color=COLOURS[number % len(COLOURS)],
        edgecolor="black",
        linewidth=0.6,
        alpha=1 if is_big else 0.6,
        label=label,
        zorder=3 if is_big else 2,
    )


def add_hm_lines(axes: Axes, low: float, high: float) -> None:
    """Lines of equal HM inside the square from low to high."""
    steps = [low + (high - low) * i / 200 for i in range(201)]
    for hm in range(5, 100, 5 if high - low < 50 else 10):
        points = [(base, hm * base / (2 * base - hm)) for base in steps if 2 * base > hm]
        points = [(base, novel) for base, novel in points if low <= novel <= high]
        if len(points) > 1:
            axes.plot(*zip(*points, strict=True), color="#999999", linewidth=0.7, linestyle=":", zorder=1)
            axes.annotate(f"{hm}", points[-1], color="#777777", fontsize=7)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)


def draw_few_shot(tables: Sequence[Table]) -> Figure:
    """Accuracy against shots, a panel for each data set and one for the average; zero-shot stands at 0."""
    names = list(dict.fromkeys(row.name for table in tables for row in table.rows))
    names = sorted(names, key=AVERAGE.__ne__)
    figure, axes = panels(len(names))
    for number, (table, label) in enumerate(zip(tables, labels(tables), strict=True)):
        for row in table.rows:
            cells = {int(column.split()[0]): cell for column, cell in row.cells.items()}
            shots = sorted(cells)
            panel = axes[names.index(row.name)]
            panel.errorbar(
                [math.log2(n) + 1 if n else 0 for n in shots],
                [cells[n].mean for n in shots],
                yerr=[error_bar(cells[n]) for n in shots],
                capsize=2,
                label=label,
                **line_style(number),
            )
    every = sorted({int(column.split()[0]) for table in tables for column in table.columns})
    for panel, name in zip(axes, names, strict=True):
        panel.set_title(name, fontsize=9)
        panel.set_xticks([math.log2(n) + 1 if n else 0 for n in every], [str(n) for n in every])
        panel.grid(color="#dddddd")
    figure.supxlabel("images a class")
    figure.supylabel(f"{visible(tables[0].keyword)} (%)")
    label_once(figure, axes)
    return figure
