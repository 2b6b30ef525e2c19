"""Accuracy, error rate and macro F1 over a whole split."""

import logging
import os
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.evaluation.build import EVALUATOR_REGISTRY

logger = logging.getLogger(__name__)


class EvaluatorBase:
    """What the trainer calls: ``reset()``, ``process(model output, labels)`` a batch, ``evaluate()`` once."""

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg

    def reset(self) -> None:
        raise NotImplementedError

    def process(self, mo: Tensor, gt: Tensor) -> None:
        raise NotImplementedError

    def evaluate(self) -> "OrderedDict[str, float]":
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Single-label classification.

    After ``evaluate()``: ``results`` (percent, full precision), ``total``, ``correct`` and ``per_class``,
    which maps each label present to (correct, total).

    Args:
        cfg: reads ``TEST.PER_CLASS_RESULT``, ``TEST.COMPUTE_CMAT`` and ``OUTPUT_DIR``.
        lab2cname: class name of each label, for the per-class lines.
        kwargs: what a trainer hands to evaluators of its own; not read.
    """

    def __init__(self, cfg: CfgNode, lab2cname: dict[int, str] | None = None, **kwargs: Any) -> None:
        super().__init__(cfg)
        self._lab2cname = lab2cname
        self.reset()

    def reset(self) -> None:
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []  # predictions, labels, all scores finite
        self.correct = self.total = 0
        self.per_class: dict[int, tuple[int, int]] = {}
        self.results: OrderedDict[str, float] = OrderedDict()

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Keeps a batch's predictions where they are; nothing waits for the device.

        Args:
            mo: scores (B, C).
            gt: labels (B,).
        """
        mo = mo.detach()
        self._batches.append((mo.max(dim=1).indices, gt.detach(), mo.isfinite().all(dim=1)))

    def evaluate(self) -> "OrderedDict[str, float]":
        """Logs the result block and returns ``accuracy``, ``error_rate`` and ``macro_f1`` in percent.

        Raises:
            ValueError: no batch was processed.
            FloatingPointError: scores are infinite or NaN.
        """
        if not self._batches:
            raise ValueError("there is nothing to evaluate: no batch was processed; is the split empty?")
        finite = torch.cat([batch[2] for batch in self._batches])
        if not finite.all():
            raise FloatingPointError(
                f"the scores of {int((~finite).sum())} of {len(finite)} images are infinite or NaN: there "
                "is no accuracy; check the weights of backbone and checkpoint, and evaluate in PREC fp32"
            )
        pred = torch.cat([batch[0] for batch in self._batches]).cpu()
        true = torch.cat([batch[1] for batch in self._batches]).cpu()
        self.total, self.correct = len(true), int((pred == true).sum())

        size = int(torch.cat([pred, true]).max()) + 1
        n_true, n_pred = true.bincount(minlength=size), pred.bincount(minlength=size)
        n_correct = true[pred == true].bincount(minlength=size)
        present = n_true.nonzero().flatten().tolist()
        self.per_class = {label: (int(n_correct[label]), int(n_true[label])) for label in present}
        # F1 = 2 TP / (2 TP + FP + FN), and TP + FP are the predictions, TP + FN the images of a label
        f1 = 2 * n_correct.double() / (n_true + n_pred)

        accuracy = 100.0 * self.correct / self.total
        self.results = OrderedDict(
            accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=100.0 * float(f1[present].mean())
        )
        logger.info(
            "=> result\n* total: %s\n* correct: %s\n* accuracy: %.2f%%\n* error: %.2f%%\n* macro_f1: %.2f%%",
            f"{self.total:,}",
            f"{self.correct:,}",
            *self.results.values(),
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            self._per_class_result()
        if self.cfg.TEST.COMPUTE_CMAT:
            self._save_confusion_matrix(true, pred)
        return self.results

    def _per_class_result(self) -> None:
        logger.info("=> per-class result")
        accuracies = []
        for label, (correct, total) in self.per_class.items():
            accuracies.append(100.0 * correct / total)
            name = (self._lab2cname or {}).get(label, "")
            logger.info(
                "* class: %d (%s)\ttotal: %s\tcorrect: %s\tacc: %.2f%%",
                label,
                name,
                f"{total:,}",
                f"{correct:,}",
                accuracies[-1],
            )
        self.results["perclass_accuracy"] = sum(accuracies) / len(accuracies)
        logger.info("* average: %.2f%%", self.results["perclass_accuracy"])

    def _save_confusion_matrix(self, true: Tensor, pred: Tensor) -> None:
        """Rows: true label, columns: predicted one, both over the labels that occur; rows sum to 1 (or 0)."""
        labels, positions = torch.cat([true, pred]).unique(return_inverse=True)
        cells = positions[: len(true)] * len(labels) + positions[len(true) :]
        counts = cells.bincount(minlength=len(labels) ** 2).view(len(labels), -1).double()
        path = os.path.join(self.cfg.OUTPUT_DIR, "cmat.pt")
        os.makedirs(self.cfg.OUTPUT_DIR, exist_ok=True)
        torch.save(counts / counts.sum(dim=1, keepdim=True).clamp(min=1), path)
        logger.info("Confusion matrix is saved to %s", path)
