"""How both commands end."""

import sys


def fail(message: str) -> int:
    """Says what is wrong; returns the exit status."""
    print(f"error: {message}", file=sys.stderr)
    return 2
