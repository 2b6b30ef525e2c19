"""One page with tables, pictures and commands, complete in itself: it opens without a network."""

import base64
import html
import io
import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reporting.layout import natural
from reporting.render import make_grid, title, to_html
from reporting.tables import Table
from reporting.text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CSS = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222;
  margin: 2rem auto; max-width: 100rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; white-space: nowrap; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #444; text-align: right !important; white-space: pre; vertical-align: bottom; }
th:first-child { text-align: left !important; }
ul { color: #555; font-size: .9rem; padding-left: 1.2rem; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .9rem; }
pre { background: #f4f4f4; padding: .6rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
@media print { details { display: none; } body { font-size: 8px; } }
"""


def make_page(
    tables: Sequence[Table],
    overviews: Sequence[Table],
    figures: "dict[str, Figure]",
    methods: Sequence[str] | None,
    ci95: bool,
    command: Sequence[str],
) -> str:
    """The page as HTML.

    Args:
        tables: one for each method and protocol.
        overviews: those that compare the methods; they come first.
        figures: pictures by name.
        methods: published ones beside; None for the usual ones.
        ci95: what the spread is.
        command: the command line that makes this page, in words.
    """
    parts = [section(table, methods, ci95) for table in [*overviews, *tables]]
    parts += ["<h2>Pictures</h2>"] * bool(figures) + [picture(name, fig) for name, fig in figures.items()]
    parts.append("<h2>Commands</h2>")
    parts += [commands(table) for table in tables]
    made = time.strftime("%Y-%m-%d %H:%M")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>VLM-HeBA: results</title>
<style>{CSS}</style>
</head>
<body>
<h1>Results</h1>
<p>Made {made} by</p>
<pre>{html.escape(visible(shlex.join(command)))}</pre>
{chr(10).join(parts)}
</body>
</html>
"""


def section(table: Table, methods: Sequence[str] | None, ci95: bool) -> str:
    """A table with its title and notes."""
    grid = make_grid(table, methods, with_cost=True)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in grid.footnotes)
    notes = f"<ul>{notes}</ul>" if notes else ""
    return f'<h2>{html.escape(title(table, ci95))}</h2>\n<div class="wide">{to_html(grid)}</div>\n{notes}'


def picture(name: str, figure: "Figure") -> str:
    """A picture as part of the page."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode()
    caption = html.escape(name.replace("_", " "))
    source = f"data:image/svg+xml;base64,{data}"
    return f'<figure><img alt="{caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'


def commands(table: Table) -> str:
    """The command of each run, folded away; logs of other code do not tell theirs."""
    blocks = []
    for row in table.rows:
        runs = sorted(row.runs, key=lambda found: (table.columns.index(found[0]), natural(found[1])))
        for column, seed, run in runs:
            told = visible(run.record.get("command") or f"not recorded; see {run.file}")
            head = html.escape(f"{row.name}, {column}, seed {seed}: {run.value:.2f} %")
            blocks.append(f"<p>{head}</p><pre>{html.escape(told)}</pre>")
    summary = html.escape(
        f"{table.method}, {visible(table.key.root)}: {len(blocks)} run{'s' * (len(blocks) != 1)}"
    )
    return f"<details><summary>{summary}</summary>{''.join(blocks)}</details>"
