"""The model of a finished training, from the file that it left."""

import logging
from pathlib import Path

from yacs.config import CfgNode

from adapt.adapter_file import AdapterFile, load_strictly, read_adapter
from adapt.method import build_model
from adapt.model import CustomCLIP, load_clip
from adapt.precision import is_emulated
from clip import weights_digest
from dassl.config import get_cfg_default
from fileio import describe_mismatch
from runner.config import extend_cfg, merge, parse_cfg
from runner.record import trainer_class
from trainers.class_texts import class_texts
from trainers.clip_trainer import ClipTrainer, device_of

logger = logging.getLogger(__name__)


def trained_config(adapter: AdapterFile) -> CfgNode:
    """The complete configuration that a file's adapters were trained with.

    Raises:
        ValueError: it is damaged, or has options unknown here.
    """
    cfg = get_cfg_default()
    extend_cfg(cfg)
    try:
        settings = only_known(parse_cfg(adapter.config), cfg)
    except (KeyError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(
            f'the metadata of "{adapter.path}" are damaged ({error!r}); fetch it again'
        ) from error
    merge(cfg, settings, f'"{adapter.path}"')
    return cfg


def only_known(settings: CfgNode, known: CfgNode) -> CfgNode:
    """Leaves out what only another Dassl declares, such as ``DATASET.CIFAR_C_TYPE`` of the original.

    A method's own options are all kept: an unknown one would mean another model.
    """
    return CfgNode(
        {
            key: only_known(value, known[key]) if isinstance(value, CfgNode) and key != "TRAINER" else value
            for key, value in settings.items()
            if key in known
        }
    )


def load_adapter(path: Path, backbone: str = "") -> tuple[CustomCLIP, CfgNode, AdapterFile]:
    """The model that was trained: CLIP with the file's adapters and prompts, on the CPU in evaluation mode.

    Forward passes belong into ``model.method.precision.autocast(device)``: the precision that the model was
    trained in, or fp32 on a CPU that only emulates it.

    Args:
        path: the file.
        backbone: name or path of CLIP's weights, if they do not lie where they did in training.

    Returns:
        The model, its configuration, and what the file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: ``read_adapter`` refuses it, or backbone or tensors are not those it was trained with.
    """
    adapter = read_adapter(path)
    cfg = trained_config(adapter)
    if backbone:
        cfg.MODEL.BACKBONE.NAME = backbone
    weights = cfg.MODEL.BACKBONE.NAME
    if digests := describe_mismatch(adapter.backbone_sha256, weights_digest(weights)):
        raise ValueError(
            f'"{path}" was trained on other weights than backbone "{weights}" has ({digests}); name those '
            "that it was trained on"
        )
    trainer = trainer_class(cfg)
    if not (isinstance(trainer, type) and issubclass(trainer, ClipTrainer)):
        raise ValueError(
            f'"{path}" is of trainer "{cfg.TRAINER.NAME}", which is none here that adapters belong to'
        )
    options = cfg.TRAINER[trainer.options_name]
    if is_emulated(options.PREC, device_of(cfg)):
        logger.warning(
            '"%s" was trained in %s, which this CPU only emulates: it is evaluated in fp32',
            *(path, options.PREC),
        )
        options.PREC = "fp32"
    cfg.freeze()
    trainer.method_of(cfg)  # the configuration's values are checked before the backbone is read
    model = build_model(
        trainer.method,
        options,
        adapter.classnames,
        load_clip(weights, cfg.MODEL.BACKBONE.get("QUICK_GELU")),
        texts=class_texts(cfg),
        prompts=adapter.prompts,
    ).eval()
    if model.adapter_learner is None:
        raise ValueError(f'"{path}" is of trainer "{cfg.TRAINER.NAME}", which has no adapters')
    load_strictly(model.adapter_learner, adapter.tensors, path)
    return model, cfg, adapter
