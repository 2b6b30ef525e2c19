"""What Pillow opens but does not turn into the 8 bits a colour that everything here computes with."""

from typing import Any

WHITE = 255  # largest value in a picture of 8 bits; Pillow, and so torchvision, makes all above it white


def depth_fault(image: Any) -> str:
    """What is wrong with the values of a Pillow image; empty if they fit. With 8 bits no pixel is read."""
    if image.mode.startswith(("I", "F")):  # 16 or 32 bits
        highest = image.getextrema()[1]
        if highest > WHITE or (image.mode == "F" and highest <= 1):
            return f"grey values up to {highest:g} do not fit 0 to {WHITE}; save it with 8 bits"
    return ""
