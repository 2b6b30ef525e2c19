"""Fetching, unpacking, laying out and checking the data sets: what ``python -m datasets.prepare`` does.

Nothing here is imported by a run: the loaders in ``datasets/`` read what this package has laid out.
"""
