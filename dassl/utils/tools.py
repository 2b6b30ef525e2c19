"""Files, images and other small things."""

import functools
import json
import os
import warnings
from typing import Any

import PIL
from PIL import Image, ImageOps

from fileio.pictures import depth_fault


def mkdir_if_missing(dirname: str) -> None:
    os.makedirs(dirname, exist_ok=True)


def check_isfile(fpath: str) -> bool:
    """Whether ``fpath`` is a file; warns if it is not."""
    isfile = os.path.isfile(fpath)
    if not isfile:
        warnings.warn(f'No file found at "{fpath}"', stacklevel=2)
    return isfile


def listdir_nohidden(path: str, sort: bool = False) -> list[str]:
    """Names in the folder ``path`` that do not begin with a dot."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def read_json(fpath: str) -> Any:
    with open(fpath, encoding="utf-8") as file:
        return json.load(file)


def write_json(obj: Any, fpath: str) -> None:
    """Writes ``obj`` as indented JSON; makes the folder if it is missing."""
    mkdir_if_missing(os.path.dirname(fpath) or ".")
    with open(fpath, "w", encoding="utf-8") as file:
        json.dump(obj, file, indent=4)


def read_image(path: str, *, upright: bool = False) -> Image.Image:
    """The image at ``path`` in RGB.

    Args:
        path: of the file.
        upright: not in Dassl: turn the image as its EXIF orientation says.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file is not a whole image, too large for Pillow, or (not in Dassl) of more than 8 bits.
    """
    try:
        with Image.open(path) as image:
            fault = depth_fault(image)
            if not fault:
                return (ImageOps.exif_transpose(image) if upright else image).convert("RGB")
    except FileNotFoundError:
        raise FileNotFoundError(f'No image file at "{path}"; is the data set complete?') from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f'The image "{path}" cannot be read ({error}); fetch it again') from error
    raise OSError(f'The image "{path}" cannot be used ({fault})')


def tolist_if_not(x: Any) -> list:
    return x if isinstance(x, list) else [x]


@functools.cache  # torch calls pip and others for it: a second, which a process's later runs need not spend
def collect_env_info() -> str:
    """torch's report on the system, with Pillow's version."""
    from torch.utils.collect_env import get_pretty_env_info

    return f"{get_pretty_env_info()}\n        Pillow ({PIL.__version__})"
