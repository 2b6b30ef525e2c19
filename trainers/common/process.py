"""Settings of a process that must be made before torch is loaded; nothing here imports it."""

import os


def set_up_process() -> None:
    """Lets idle threads sleep: spinning ones starve loader workers and other processes."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
