"""CLIP with OpenAI's Python interface and state-dict names, written afresh for today's torch.

`import clip; clip.load("ViT-B/16")` and `from clip import clip; clip.build_model(state_dict)` both work.
"""

from clip.clip import (
    _MODELS,
    _download,
    available_models,
    build_model,
    input_resolution,
    load,
    load_state_dict,
    tokenize,
    unlearned_words,
    weights_digest,
)
from clip.layout import trim_to_longest
from clip.weights import Weights

__all__ = [
    "_MODELS",
    "Weights",
    "_download",
    "available_models",
    "build_model",
    "input_resolution",
    "load",
    "load_state_dict",
    "tokenize",
    "trim_to_longest",
    "unlearned_words",
    "weights_digest",
]
