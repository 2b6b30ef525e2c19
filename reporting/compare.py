"""Published numbers beside ours: which methods, and which of their numbers belongs beside which cell."""

from collections.abc import Sequence

from reporting import published
from reporting.published import Number
from reporting.tables import Row, Table, other_backbones

USUAL = ("HeBA", "LwEIB", "MaPLe")


def beside(table: Table, row: Row, method: str, column: str) -> Number | None:
    """The published number for a cell: of the same data set, or the average of the same ones."""
    if not table.is_comparable or table.is_overview:
        return None
    if row.datasets:
        return published.average(table.key.kind, method, row.datasets, column)
    return published.lookup(table.key.kind, method, row.name, column)


def methods_for(table: Table, chosen: Sequence[str] | None) -> list[str]:
    """The published methods to set beside a table.

    Args:
        chosen: what the user named; None for HeBA, LwEIB, MaPLe and the published results of the same method.
    """
    if chosen is not None:
        return list(chosen)
    same = published.PUBLISHED_AS.get(table.key.trainer, table.key.trainer)
    known = published.methods()
    return list(dict.fromkeys([*[same] * (same in known), *USUAL]))


def any_known(table: Table, methods: Sequence[str]) -> bool:
    """Whether any of the methods has a published number for any cell."""
    columns = published.COLUMNS[table.key.kind]
    return any(beside(table, row, m, c) for row in table.rows for m in methods for c in columns)


def published_notes(table: Table, chosen: Sequence[str] | None) -> list[str]:
    """What one must know before comparing with the published numbers."""
    if table.is_overview or table.key.kind not in published.COLUMNS or chosen == []:
        return []
    usual = f"accuracies of CLIP {published.BACKBONE} after {published.SHOTS} shots"
    usual += "" if table.key.kind == "base2new" else " of ImageNet"
    if not table.is_comparable:
        return [f"published numbers are not set beside these: they are {usual}"] if chosen else []
    if not any_known(table, methods_for(table, chosen)):
        return []
    notes = [
        "published numbers: in brackets by how much ours is above; averages over other data sets than the "
        "papers' are computed here"
    ]
    return notes + [note for note in [other_backbones([table])] if note]
