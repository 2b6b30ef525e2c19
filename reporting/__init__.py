"""Finished runs as tables, pictures and a page. Standard library and tabulate; pictures need matplotlib."""
