"""Makes this folder's files from the complete golden numbers of the published code.

    python tests/data/shrink_goldens.py /path/to/goldens

Kept whole: CLIP's weights (of the vocabulary only the rows that are used), tokens, images, features, logits,
losses, inputs. A large gradient is kept as its norm, its sum and 64 of its entries.
"""

import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
SAMPLES = 64


def summary(values: np.ndarray) -> np.ndarray:
    """Norm, sum and evenly spaced entries of an array, as one vector of 2 + 64 numbers."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    entries = flat[np.linspace(0, flat.size - 1, SAMPLES).astype(np.int64)]
    return np.concatenate([[np.sqrt((flat**2).sum()), flat.sum()], entries])


def shrink(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a golden file, gradients as summaries."""
    kept = {}
    for name, value in np.load(path).items():
        is_output = name.rsplit("/", 1)[-1] in ("y", "dx") and value.size > 10_000
        kept[name] = summary(value) if "/grad/" in name or is_output else value
    return kept


def shrink_prompts(path: Path) -> dict[str, np.ndarray]:
    """A prompt learner's golden arrays without inputs that a formula gives, normalised copies and fp16 cases.

    Large gradients of cases that differ from the main one in their depth alone are summaries.
    """
    kept = {}
    for name, value in np.load(path).items():
        if "param/" in name or name == "images" or name.endswith("_norm") or name.startswith("half_"):
            continue
        is_large = name.startswith("depth") and "/grad/" in name and value.size > 10_000
        kept[name] = summary(value) if is_large else value
    return kept


def shrink_adapters(path: Path) -> dict[str, np.ndarray]:
    """An adapter method's golden arrays without inputs that a formula gives and normalised copies."""
    kept = {}
    for name, value in np.load(path).items():
        if (
            name.startswith(("param/", "adapter/"))
            or name == "images"
            or name.endswith(("/text_norm", "/image_norm"))
        ):
            continue
        kept[name] = summary(value) if "/grad/" in name and value.size > 2000 else value
    return kept


def main(goldens: Path) -> None:
    """Writes this folder's files."""
    for name in ("lweib_tiny", "mma_tiny", "mmapp_tiny"):
        np.savez_compressed(HERE / f"{name}.npz", **shrink_adapters(goldens / f"{name}.npz"))
    for name in ("coop_tiny", "cocoop_tiny", "maple_tiny"):
        np.savez_compressed(HERE / f"{name}.npz", **shrink_prompts(goldens / f"{name}.npz"))
    for name in ("heba_tiny", "heba_unit"):
        np.savez_compressed(HERE / f"{name}.npz", **shrink(goldens / f"{name}.npz"))
    weights = torch.load(goldens / "tiny_clip.pt", weights_only=True)
    table = weights.pop("token_embedding.weight")
    rows = table.abs().sum(1).nonzero().squeeze(1)
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    arrays["token_embedding.rows"], arrays["token_embedding.values"] = rows.numpy(), table[rows].numpy()
    np.savez_compressed(HERE / "tiny_clip.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
