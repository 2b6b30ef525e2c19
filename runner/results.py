"""What a call of reproduce.py shows when it is through: the table of its methods."""

from pathlib import Path

from reporting.layout import find_places
from reporting.render import render
from reporting.tables import make_tables, overviews
from runner.jobs import Plan, expand


def results_folder(plan: Plan) -> Path:
    """The folder to give to parse_test_res.py."""
    folders = {"base2new": "base2new", "demo": "base2new", "few_shot": "few_shot"}
    return plan.output / folders.get(plan.protocol, "")  # of the transfer protocols the source's runs, too


def show_methods(plan: Plan, width: int | None) -> str:
    """One table of the plan's methods and what they took; of a single method its own. "" if nothing finished.

    Only the plan's runs count: whatever else lies in the folder is left to parse_test_res.py.

    Args:
        plan: what was done.
        width: of the terminal; None if there is none.
    """
    folders = {run.folder for job in expand(plan) for run in job.runs}
    places, _, _ = find_places([results_folder(plan)])
    tables = make_tables([place for place in places if place.folder in folders])
    tables = [table for table in tables if any(row.cells for row in table.rows)]
    shown = overviews(tables, []) or tables
    return "\n".join(render(table, "text", [], False, True, width) for table in shown)
