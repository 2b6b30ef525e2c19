"""One file a method, and the class that trains all of them (``clip_trainer.py``)."""
