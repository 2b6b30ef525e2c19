"""Finds pictures whose values do not fit into 8 bits a colour, which everything here computes with."""

from typing import Any

WHITE = 255  # largest value in a picture of 8 bits; Pillow, and so torchvision, makes all above it white


def depth_fault(image: Any) -> str:
    """What is wrong with the values of a Pillow image; empty if they fit. With 8 bits no pixel is read."""
    if image.mode.startswith(("I", "F")):  # 16 or 32 bits
        lowest, highest = image.getextrema()
        if not 0 <= lowest <= highest <= WHITE:  # nor NaN
            return f"grey values from {lowest:g} to {highest:g} do not fit 0 to {WHITE}; save it with 8 bits"
        if image.mode == "F" and highest <= 1:
            return "grey values from 0 to 1 would all become black; save it with 8 bits"
    return ""
