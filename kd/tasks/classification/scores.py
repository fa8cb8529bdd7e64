"""Metrics of class probabilities. Predictions have one line an example and a column `score:<label>` for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from scipy import special
from scipy.optimize import minimize_scalar

from kd.analysis.statistics import mcnemar
from kd.base.judge import CKA, EXPLANATIONS, SHARE, Bounds, Figure, Picture

if TYPE_CHECKING:
    from datasets import Dataset

COUNTS = "right and wrong count test examples"
FIGURES = (
    Figure("fidelity/agreement", "agreement", group="quality"),
    Figure("calibration/ece", "ECE", group="quality", higher_is_better=False),
    Figure("fidelity/kl", "KL", higher_is_better=False),
    Figure("fidelity/right_where_teacher_wrong", "right, teacher wrong", "count", about=COUNTS),
    Figure("fidelity/wrong_where_teacher_right", "wrong, teacher right", "count"),
    CKA,
    Figure("calibration/brier", "Brier", higher_is_better=False),
    Figure("calibration/temperature", "temperature", ".2f", about="the temperature is fitted on validation"),
    Figure("calibration/ece_tempered", "ECE tempered", higher_is_better=False),
    *EXPLANATIONS,
)
SCORE = "score:"
TINY = 1e-12
BINS = 15
"""Bins of the calibration error."""
COOLEST, HOTTEST = 0.01, 100.0
"""Bounds of a fitted temperature."""
FLAT = 1e-9
"""Difference of loss in nats that counts as none."""


class LabelJudge:
    """Judges predictions of labels, as `kd.base.judge.Judge` says."""

    directions: ClassVar[Mapping[str, bool]] = {"accuracy": True, "macro_f1": True, "loss": False}
    bounds: ClassVar[Mapping[str, Bounds]] = {"accuracy": SHARE, "macro_f1": SHARE, "loss": (0.0, None)}
    figures: ClassVar[tuple[Figure, ...]] = FIGURES
    slices: ClassVar[tuple[str, ...]] = ("label", "words")
    outcomes: ClassVar[tuple[str, ...]] = ("prediction", "loss")
    wide: ClassVar[str] = SCORE
    pictures: ClassVar[tuple[Picture, ...]] = ()

    @staticmethod
    def quality(predictions: pd.DataFrame) -> dict[str, float]:
        """Return accuracy and macro F1 (over the classes that occur), rising, and mean loss in nats, falling.

        A class's F1 is 2 TP / (examples of the class + examples predicted as it), as scikit-learn's `f1_score`, whose
        checks took most of the time of a comparison by slices.
        """
        count = len(predictions)
        codes = pd.factorize(np.concatenate([predictions["label"], predictions["prediction"]]))[0]
        truth, given = codes[:count], codes[count:]
        right, classes = truth == given, truth.max() + 1  # those that occur have the first codes
        hits, occurs, said = (np.bincount(part, minlength=classes)[:classes] for part in (truth[right], truth, given))
        return {
            "accuracy": float(right.mean()),
            "macro_f1": float((2 * hits / (occurs + said)).mean()),
            "loss": float(predictions["loss"].to_numpy().mean()),
        }

    @staticmethod
    def diagnostics(validation: pd.DataFrame | None, test: pd.DataFrame) -> dict[str, float]:
        """Return the expected calibration error and the Brier score on test, both 0 at best; and what `tempered` does.

        ECE is over 15 bins of equal width of the highest probability (Guo et al. 2017, equation 3,
        https://arxiv.org/abs/1706.04599). The Brier score is the sum over classes of squared errors, mean over examples
        (Brier 1950), from 0 to 2.
        """
        columns, probabilities = _probabilities(test)
        found = {
            "calibration/ece": _ece(test, probabilities),
            "calibration/brier": float(((probabilities - _truth(test, columns)) ** 2).sum(axis=1).mean()),
        }
        return found if validation is None else found | tempered(validation, test)

    @staticmethod
    def churn(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, float]:
        """Return shares of examples whose prediction changed (Milani Fard et al. 2016), became right, and became wrong.

        Raises:
            ValueError: the two are not predictions of the same examples.
        """
        _require_same(before, after)
        was, now = _right(before), _right(after)
        return {
            "changed": float((before["prediction"].to_numpy() != after["prediction"].to_numpy()).mean()),
            "to right": float((~was & now).mean()),
            "to wrong": float((was & ~now).mean()),
        }

    @staticmethod
    def fidelity(student: pd.DataFrame, teacher: pd.DataFrame) -> dict[str, float]:
        """Return the share of examples with the same prediction (rising) and mean KL(teacher || student) in nats.

        Also the numbers of examples on which the student is right and the teacher wrong, and the other way round.

        Raises:
            ValueError: the two are not predictions of the same examples.
        """
        _require_same(student, teacher)
        columns, reference = _probabilities(teacher)
        ours = student[columns].to_numpy()
        divergence = (reference * (np.log(np.maximum(reference, TINY)) - np.log(np.maximum(ours, TINY)))).sum(axis=1)
        same = student["prediction"].to_numpy() == teacher["prediction"].to_numpy()
        ours_right, theirs_right = _right(student), _right(teacher)
        return {
            "fidelity/agreement": float(same.mean()),
            "fidelity/kl": float(max(divergence.mean(), 0.0)),
            "fidelity/right_where_teacher_wrong": float((ours_right & ~theirs_right).sum()),
            "fidelity/wrong_where_teacher_right": float((~ours_right & theirs_right).sum()),
        }

    @staticmethod
    def example_values(predictions: pd.DataFrame, metric: str) -> np.ndarray | None:
        """Return `(examples,)` values whose mean is accuracy or loss; None for macro F1."""
        if metric == "accuracy":
            return _right(predictions).astype(float)
        return predictions["loss"].to_numpy(dtype=float) if metric == "loss" else None

    @staticmethod
    def paired_test(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[str, float]:
        """Return the two-sided p of McNemar's exact test on predictions of the same examples in the same order."""
        mine, rival = _right(ours), _right(theirs)
        return "McNemar", mcnemar(int((mine & ~rival).sum()), int((rival & ~mine).sum()))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis of `(examples, classes)`, in float64."""
    probabilities: np.ndarray = special.softmax(logits.astype(np.float64), axis=-1)
    return probabilities


def frame(rows: Dataset, truth: Sequence[str], labels: Sequence[str], probabilities: np.ndarray) -> pd.DataFrame:
    """Put predictions beside the truth: example_id, group, label, prediction, loss, `score:<label>`.

    `truth` is the label of each row; the columns of `probabilities`, `(examples, classes)`, are those of `labels`.
    """
    index = {label: i for i, label in enumerate(labels)}
    right = probabilities[np.arange(len(truth)), [index[label] for label in truth]]
    table = {
        "example_id": rows["example_id"][:],
        "group": rows["group"][:],
        "label": list(truth),
        "prediction": [labels[i] for i in probabilities.argmax(axis=1)],
        "loss": -np.log(np.maximum(right, TINY)),
    }
    return pd.DataFrame(table | {f"{SCORE}{label}": probabilities[:, i] for i, label in enumerate(labels)})


def trusted(outputs: Mapping[str, np.ndarray], confidence: float, balanced: bool, seed: int) -> np.ndarray:
    """Choose examples by the probability of the most probable class; returns `(examples,)`, true where one is kept.

    Balanced, each class that is still predicted keeps only as many examples as the rarest of them, drawn by seed.
    `outputs` has `logits`, `(examples, classes)`.
    """
    probabilities = softmax(outputs["logits"])
    kept: np.ndarray = probabilities.max(axis=1) >= confidence
    if not balanced or not kept.any():
        return kept
    decided = probabilities.argmax(axis=1)
    classes, counts = np.unique(decided[kept], return_counts=True)
    order = np.random.default_rng(seed).permutation(len(kept))
    order = order[kept[order]]
    chosen = np.concatenate([order[decided[order] == each][: counts.min()] for each in classes])
    return np.isin(np.arange(len(kept)), chosen)


def _ece(predictions: pd.DataFrame, probabilities: np.ndarray) -> float:
    confidence = probabilities.max(axis=1)
    right = _right(predictions)
    bin_of = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(right[bin_of == b].sum() - confidence[bin_of == b].sum()) for b in range(BINS)]
    return float(sum(gaps) / len(predictions))


def _truth(predictions: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    truth: np.ndarray = np.array(columns)[None, :] == (SCORE + predictions["label"]).to_numpy()[:, None]
    return truth


def tempered(validation: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, float]:
    """Fit one temperature on validation; return it with the ECE of `predictions` at it.

    Temperature scaling (Guo et al. 2017, section 4.2): the logits are divided by the T with the least mean negative
    log-likelihood; no decision changes. T above 1 means that the model is too sure. Empty where no T from 0.01 to 100
    is best, for example where all of validation is right.
    """
    columns, probabilities = _probabilities(validation)
    known, truth = _logs(probabilities), _truth(validation, columns)

    def loss(log_temperature: float) -> float:
        tempered = known / np.exp(log_temperature)
        return float((special.logsumexp(tempered, axis=1) - tempered[truth]).mean())

    low, high = np.log(COOLEST), np.log(HOTTEST)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x
    if min(loss(low), loss(high)) <= loss(found) + FLAT:
        return {}
    after = softmax(_logs(predictions[columns].to_numpy()) / np.exp(found))
    return {"calibration/temperature": float(np.exp(found)), "calibration/ece_tempered": _ece(predictions, after)}


def _logs(probabilities: np.ndarray) -> np.ndarray:
    logs: np.ndarray = np.log(np.maximum(probabilities, np.finfo(float).tiny))
    return logs


def _right(predictions: pd.DataFrame) -> np.ndarray:
    right: np.ndarray = np.asarray(predictions["label"].array == predictions["prediction"].array, dtype=bool)
    return right


def _require_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    ours, theirs = one["example_id"].array, other["example_id"].array
    if len(ours) != len(theirs) or not np.all(ours == theirs):
        raise ValueError("fidelity and churn need predictions of the same examples in the same order")


def _probabilities(predictions: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    columns = [column for column in predictions.columns if column.startswith(SCORE)]
    return columns, predictions[columns].to_numpy()
