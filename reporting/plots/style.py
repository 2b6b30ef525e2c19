"""What the pictures share: signs of methods that also differ in grey, and panels."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# From dark to light, for eyes and printers without colours.
COLOURS = ["#222222", "#e69f00", "#0072b2", "#cc79a7", "#009e73", "#f0e442", "#56b4e9", "#d55e00"]
HATCHES = ["", "///", "...", "xx", "\\\\\\", "++", "oo", "--"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
LINES = ["-", "--", "-.", ":"]
# A fixed salt and no date: the same runs give the same files.
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "VLM-HeBA"}
STYLE |= {"hatch.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False}
STYLE |= {"text.parse_math": False}  # a $ in a name is no formula


def line_style(number: int) -> dict[str, Any]:
    """Colour, line and marker of the method with this number."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": LINES[number % len(LINES)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 4,
    }


def panels(number: int, width: float = 2.6, height: float = 2.2, most: int = 4) -> tuple[Figure, list[Axes]]:
    """A figure of so many equal panels."""
    columns = min(most, number)
    rows = math.ceil(number / columns)
    figure = Figure(figsize=(max(width * columns, 4), height * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unneeded in axes[number:]:
        unneeded.set_axis_off()
    return figure, list(axes[:number])


def label_once(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend for all panels."""
    found = {
        label: line for panel in axes for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=3)
