"""Data sets in CoOp's layout: one short file each, the few-shot protocol once (``datasets/base.py``)."""
