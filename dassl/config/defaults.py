"""Every configuration key there is; setting another one is an error.

MODEL.BACKBONE.PRETRAINED and MODEL.HEAD.NAME are read by nothing here: they are declared because the
family's command line and YAML files set them.
"""

from yacs.config import CfgNode


def get_cfg_default() -> CfgNode:
    """A fresh copy of the default configuration; trainers add their own node below ``TRAINER``."""
    cfg = CfgNode()
    cfg.OUTPUT_DIR = "./output"
    cfg.RESUME = ""  # folder to continue from; empty: OUTPUT_DIR
    cfg.SEED = -1  # negative: not seeded
    cfg.USE_CUDA = True
    cfg.VERBOSE = True
    cfg.INPUT = _input()
    cfg.DATASET = _dataset()
    cfg.DATALOADER = _dataloader()

    cfg.MODEL = CfgNode()
    cfg.MODEL.INIT_WEIGHTS = ""  # path of weights that a trainer may start from
    cfg.MODEL.BACKBONE = CfgNode()
    cfg.MODEL.BACKBONE.NAME = ""
    cfg.MODEL.BACKBONE.PRETRAINED = True
    cfg.MODEL.HEAD = CfgNode()
    cfg.MODEL.HEAD.NAME = ""

    cfg.OPTIM = _optim()

    cfg.TRAIN = CfgNode()
    cfg.TRAIN.CHECKPOINT_FREQ = 0  # epochs between checkpoints; 0: only the last epoch's
    cfg.TRAIN.PRINT_FREQ = 10  # batches between log lines
    cfg.TRAIN.RESUME = True  # not in Dassl: keep one <OUTPUT_DIR>/resume.pth.tar while training
    cfg.TRAIN.RESUME_SECONDS = 60.0  # not in Dassl: least seconds between its writings; 0: after every epoch

    cfg.TEST = CfgNode()
    cfg.TEST.EVALUATOR = "Classification"
    cfg.TEST.PER_CLASS_RESULT = False
    cfg.TEST.COMPUTE_CMAT = False  # save the confusion matrix as <OUTPUT_DIR>/cmat.pt
    cfg.TEST.NO_TEST = False
    cfg.TEST.SPLIT = "test"
    cfg.TEST.FINAL_MODEL = "last_step"  # or best_val

    cfg.TRAINER = CfgNode()
    cfg.TRAINER.NAME = ""
    return cfg


def _input() -> CfgNode:
    node = CfgNode()
    node.SIZE = (224, 224)  # height, width
    node.INTERPOLATION = "bilinear"
    node.TRANSFORMS = ()
    node.NO_TRANSFORM = False
    node.PIXEL_MEAN = [0.485, 0.456, 0.406]
    node.PIXEL_STD = [0.229, 0.224, 0.225]
    node.CROP_PADDING = 4
    node.RRCROP_SCALE = (0.08, 1.0)
    node.CUTOUT_N = 1
    node.CUTOUT_LEN = 16
    node.GN_MEAN = 0.0
    node.GN_STD = 0.15
    node.RANDAUGMENT_N = 2
    node.RANDAUGMENT_M = 10
    node.COLORJITTER_B = 0.4
    node.COLORJITTER_C = 0.4
    node.COLORJITTER_S = 0.4
    node.COLORJITTER_H = 0.1
    node.RGS_P = 0.2
    node.GB_P = 0.5
    node.GB_K = 21
    return node


def _dataset() -> CfgNode:
    node = CfgNode()
    node.ROOT = ""
    node.NAME = ""
    node.SOURCE_DOMAINS = ()
    node.TARGET_DOMAINS = ()
    node.NUM_SHOTS = -1  # images a class; -1: all; 0: no training, all are listed
    return node


def _dataloader() -> CfgNode:
    node = CfgNode()
    node.NUM_WORKERS = 4
    node.K_TRANSFORMS = 1  # views of each training image
    node.RETURN_IMG0 = False  # also return the image without augmentation
    node.CACHE_MB = 1000.0  # not in Dassl: memory for decoded training images; 0: decode in each epoch
    for part in ("TRAIN_X", "TRAIN_U"):
        node[part] = CfgNode()
        node[part].SAMPLER = "RandomSampler"
        node[part].BATCH_SIZE = 32
        node[part].N_DOMAIN = 0  # RandomDomainSampler: domains a batch; 0: all
        node[part].N_INS = 16  # RandomClassSampler: images a class in a batch
    node.TRAIN_U.SAME_AS_X = True  # TRAIN_U takes TRAIN_X's settings
    node.TEST = CfgNode()
    node.TEST.SAMPLER = "SequentialSampler"
    node.TEST.BATCH_SIZE = 32
    return node


def _optim() -> CfgNode:
    node = CfgNode()
    node.NAME = "adam"
    node.LR = 0.0003
    node.WEIGHT_DECAY = 5e-4
    node.MOMENTUM = 0.9
    node.SGD_DAMPNING = 0
    node.SGD_NESTEROV = False
    node.RMSPROP_ALPHA = 0.99
    node.ADAM_BETA1 = 0.9
    node.ADAM_BETA2 = 0.999
    node.STAGED_LR = False  # LR for the children in NEW_LAYERS, LR * BASE_LR_MULT for the others
    node.NEW_LAYERS = ()
    node.BASE_LR_MULT = 0.1
    node.LR_SCHEDULER = "single_step"
    node.STEPSIZE = (-1,)  # epochs; single_step reads the last, not positive: MAX_EPOCH
    node.GAMMA = 0.1
    node.MAX_EPOCH = 10
    node.WARMUP_EPOCH = -1  # not positive: no warm-up
    node.WARMUP_TYPE = "linear"  # or constant
    node.WARMUP_CONS_LR = 1e-5
    node.WARMUP_MIN_LR = 1e-5
    node.WARMUP_RECOUNT = True  # the schedule proper starts from its first epoch after the warm-up
    return node
