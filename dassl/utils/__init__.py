"""Small tools: logging, meters, registry, files, checkpoints."""

from dassl.utils.checkpoint import (
    load_checkpoint,
    load_pretrained_weights,
    load_state_dict_strictly,
    read_dictionary,
    resume_from_checkpoint,
    save_checkpoint,
)
from dassl.utils.logger import setup_logger
from dassl.utils.meters import AverageMeter, MetricMeter
from dassl.utils.registry import Registry, check_availability
from dassl.utils.rng import get_rng_state, isolated_rng, mix_seed, set_random_seed, set_rng_state
from dassl.utils.tools import (
    check_isfile,
    collect_env_info,
    listdir_nohidden,
    mkdir_if_missing,
    read_image,
    read_json,
    tolist_if_not,
    write_json,
)

__all__ = [
    "AverageMeter",
    "MetricMeter",
    "Registry",
    "check_availability",
    "check_isfile",
    "collect_env_info",
    "get_rng_state",
    "isolated_rng",
    "listdir_nohidden",
    "load_checkpoint",
    "load_pretrained_weights",
    "load_state_dict_strictly",
    "mix_seed",
    "mkdir_if_missing",
    "read_dictionary",
    "read_image",
    "read_json",
    "resume_from_checkpoint",
    "save_checkpoint",
    "set_random_seed",
    "set_rng_state",
    "setup_logger",
    "tolist_if_not",
    "write_json",
]
