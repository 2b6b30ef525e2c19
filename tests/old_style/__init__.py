"""Trainers in the shape of the family's published files, which tests drop into ``trainers/``.

They use CLIP and Dassl as CoOp's coop.py, cocoop.py and zsclip.py do, old torch idioms included.
"""
