"""Pictures of what happened inside the runs: losses while training, and single classes."""

import statistics
from collections import defaultdict
from collections.abc import Sequence

from matplotlib.figure import Figure

from reporting.curves import losses
from reporting.plots.style import COLOURS, label_once, line_style, panels
from reporting.tables import Table, labels

MOST_CLASSES = 24  # in one panel; of more, those that changed most


def loss_curves(tables: Sequence[Table]) -> dict[str, list[tuple[str, list[dict[int, float]]]]]:
    """Losses by epoch of the training runs: panel → label → one curve for each seed."""
    found: dict[str, list] = defaultdict(list)
    seen = set()  # a source's run stands in several tables
    for kind in dict.fromkeys(table.key.kind for table in tables):
        group = [table for table in tables if table.key.kind == kind]
        for table, label in zip(group, labels(group), strict=True):
            for row in table.rows:
                seeds = defaultdict(list)
                for column, _, run in row.runs:
                    if not run.is_test and run.folder not in seen and (curve := losses(run)):
                        seen.add(run.folder)
                        seeds[f"{label}, {column}" if kind == "few_shot" else label].append(curve)
                panel = f"{row.name}, base classes" if kind == "base2new" else row.name
                found[panel] += seeds.items()
    return {panel: lines for panel, lines in found.items() if lines}


def draw_losses(curves: dict[str, list[tuple[str, list[dict[int, float]]]]]) -> Figure:
    """Training loss by epoch, a panel for each data set: mean over seeds, shaded between the extremes."""
    figure, axes = panels(len(curves))
    every = list(dict.fromkeys(label for lines in curves.values() for label, _ in lines))
    for panel, (dataset, lines) in zip(axes, curves.items(), strict=True):
        for label, seeds in lines:
            number = every.index(label)
            epochs = sorted(set.intersection(*(set(seed) for seed in seeds)))
            values = [[seed[epoch] for seed in seeds] for epoch in epochs]
            panel.plot(
                epochs,
                [statistics.fmean(at) for at in values],
                markevery=max(1, len(epochs) // 6),
                label=label,
                **line_style(number),
            )
            lowest, highest = [min(at) for at in values], [max(at) for at in values]
            panel.fill_between(epochs, lowest, highest, alpha=0.2, color=COLOURS[number % len(COLOURS)])
        panel.set_title(dataset, fontsize=9)
        panel.grid(color="#dddddd")
        panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    figure.supxlabel("epoch")
    figure.supylabel("training loss")
    label_once(figure, axes)
    return figure


def draw_class_changes(found: Sequence[tuple[Table, str, str, dict[str, float]]]) -> Figure:
    """Points that each class gained or lost against zero-shot CLIP, a panel for each half of the classes."""
    longest = max(min(len(changes), MOST_CLASSES) for _, _, _, changes in found)
    figure, axes = panels(len(found), width=4.2, height=0.19 * longest + 0.9, most=2)
    for panel, (_, _, column, changes) in zip(axes, found, strict=True):
        ranked = sorted(changes.items(), key=lambda item: item[1])
        if len(ranked) > MOST_CLASSES:
            half = MOST_CLASSES // 2
            ranked = ranked[:half] + ranked[-half:]
        names, values = zip(*ranked, strict=True)
        lost = [value < 0 for value in values]
        bars = panel.barh(range(len(names)), values, edgecolor="black", linewidth=0.5)
        for bar, is_lost in zip(bars, lost, strict=True):
            bar.set_facecolor("#ffffff" if is_lost else "#777777")
            bar.set_hatch("////" if is_lost else "")
        panel.set_yticks(range(len(names)), names, fontsize=7)
        panel.axvline(0, color="black", linewidth=0.8)
        panel.grid(axis="x", color="#dddddd")
        better, worse = sum(v > 0 for v in changes.values()), sum(v < 0 for v in changes.values())
        shown = "" if len(names) == len(changes) else f"; the {len(names)} that changed most are shown"
        panel.set_title(f"{column}: {better} better, {worse} worse of {len(changes)}{shown}", fontsize=8)
    table, dataset = found[0][:2]
    figure.suptitle(f"{dataset}: {table.method} against zero-shot CLIP", fontsize=9)
    figure.supxlabel("points of accuracy", fontsize=8)
    return figure
