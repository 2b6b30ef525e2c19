"""Tables for programs: JSON and CSV, with full precision."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict

from reporting import published
from reporting.compare import beside, methods_for, published_notes
from reporting.read import COSTS
from reporting.tables import Row, Table
from reporting.text import visible


def to_json(tables: Sequence[Table], chosen: Sequence[str] | None) -> str:
    """All tables with full precision."""
    return json.dumps([describe(table, chosen) for table in tables], indent=1, ensure_ascii=False)


def describe(table: Table, chosen: Sequence[str] | None) -> dict:
    """A table in JSON's types."""
    key = table.key
    rows = []
    for row in table.rows:
        cells = {
            column: {k: v for k, v in asdict(cell).items() if k != "contradiction"}
            | ({"contradiction": cell.contradiction} if cell.contradiction else {})
            for column, cell in row.cells.items()
        }
        found = {"name": row.name, "cells": cells, "cost": row.cost}
        if row.datasets:
            found["datasets"] = row.datasets
        if table.is_comparable and not table.is_overview:
            found["published"] = {m: described(table, row, m) for m in methods_for(table, chosen)}
        rows.append(found)
    return {
        "kind": key.kind,
        "overview": table.is_overview,
        "root": visible(key.root),
        "trainer": key.trainer,
        "config": key.config,
        "shots": key.shots,
        "source": key.source,
        "keyword": visible(table.keyword),
        "rows": rows,
        "notes": table.notes + published_notes(table, chosen),
    }


def described(table: Table, row: Row, method: str) -> dict[str, dict]:
    """A method's numbers beside a row, with source and difference."""
    found = {}
    for column in published.COLUMNS[table.key.kind]:
        if number := beside(table, row, method, column):
            ours = row.cells.get(column)
            difference = None if ours is None else ours.mean - number.value
            found[column] = asdict(number) | {"difference": difference}
    return found


def to_csv(tables: Sequence[Table], chosen: Sequence[str] | None) -> str:
    """All tables in one, a line for each row, with full precision; without the notes.

    The last column says which published numbers of the line contradict their own table, and why.
    """
    content = [describe(table, chosen) for table in tables]
    keys = ["kind", "overview", "root", "trainer", "config", "shots", "source"]
    columns = dict.fromkeys(c for t in tables for c in t.columns)
    costs = [name for name in COSTS if any(name in row.cost for t in tables for row in t.rows)]
    rows = [row for table in content for row in table["rows"]]
    methods = dict.fromkeys(
        (method, column)
        for row in rows
        for method, found in row.get("published", {}).items()
        for column in found
    )
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    heads = [head for column in columns for head in (column, f"{column} spread", f"{column} seeds")]
    beside_heads = [head for m, c in methods for head in (f"{m} {c}", f"{m} {c} difference")]
    out.writerow([*keys, "name", *heads, *costs, *beside_heads, "contradictions"])
    for table in content:
        for row in table["rows"]:
            line = [*(table[key] for key in keys), row["name"]]
            for column in columns:
                cell = row["cells"].get(column, {})
                line += [cell.get("mean"), cell.get("spread"), " ".join(cell.get("seeds", []))]
            line += [row["cost"].get(name) for name in costs]
            for method, column in methods:
                number = row.get("published", {}).get(method, {}).get(column, {})
                line += [number.get("value"), number.get("difference")]
            out.writerow([*line, "; ".join(contradictions(row))])
    return text.getvalue()


def contradictions(row: dict) -> list[str]:
    """What is wrong with the published numbers in or beside a row of ``describe``."""
    cells = [("", row["cells"]), *row.get("published", {}).items()]
    found = [(method, cell.get("contradiction")) for method, of in cells for cell in of.values()]
    return list(dict.fromkeys(f"{method} {text}".strip() for method, text in found if text))
