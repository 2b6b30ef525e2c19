"""The part of Dassl 0.6.3's API that the CoOp family uses, written afresh for today's torch.

Names, signatures, log lines and file formats are Dassl's, so published trainers run unmodified. Messages go
through ``logging`` at INFO; ``dassl.utils.setup_logger()`` makes them visible, in a notebook too, and with a
folder it keeps them in ``log.txt``.
"""
