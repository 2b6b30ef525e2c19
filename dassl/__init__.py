"""The part of Dassl 0.6.3's API that the CoOp family uses, written afresh for today's torch.

Names, signatures, log lines and file formats are Dassl's, so published trainers run unmodified. What no
trainer or configuration of the family uses is left out: an error names it and points to the original Dassl
(``dassl.config.defaults.FIXED`` has the keys). Messages go through ``logging`` at INFO;
``dassl.utils.setup_logger()`` makes them visible, in a notebook too, and with a folder it keeps them in
``log.txt``.
"""
