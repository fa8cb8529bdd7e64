"""Metrics of class probabilities. A frame has one line an example and a column `score:<label>` a class."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from datasets import Dataset
from sklearn.metrics import f1_score

DIRECTIONS = {"accuracy": True, "macro_f1": True, "loss": False}
SCORE = "score:"
TINY = 1e-12


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis of `(examples, classes)`, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    probabilities: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def frame(rows: Dataset, truth: Sequence[str], labels: Sequence[str], probabilities: np.ndarray) -> pd.DataFrame:
    """Put predictions beside the truth: example_id, group, label, prediction, loss, `score:<label>`.

    Args:
        rows: with columns example_id and group.
        truth: the label of each row.
        labels: the classes, in the order of the probabilities' columns.
        probabilities: `(examples, classes)`, rows summing to 1.
    """
    index = {label: i for i, label in enumerate(labels)}
    right = probabilities[np.arange(len(truth)), [index[label] for label in truth]]
    table = {
        "example_id": rows["example_id"],
        "group": rows["group"],
        "label": list(truth),
        "prediction": [labels[i] for i in probabilities.argmax(axis=1)],
        "loss": -np.log(np.maximum(right, TINY)),
    }
    return pd.DataFrame(table | {f"{SCORE}{label}": probabilities[:, i] for i, label in enumerate(labels)})


def quality(predictions: pd.DataFrame) -> dict[str, float]:
    """Accuracy and macro F1 (over the classes that occur), rising, and mean loss in nats, falling."""
    return {
        "accuracy": float((predictions["label"] == predictions["prediction"]).mean()),
        "macro_f1": float(
            f1_score(
                predictions["label"],
                predictions["prediction"],
                labels=sorted(predictions["label"].unique()),
                average="macro",
                zero_division=0,
            )
        ),
        "loss": float(predictions["loss"].mean()),
    }


def calibration(predictions: pd.DataFrame, bins: int = 15) -> dict[str, float]:
    """Expected calibration error and Brier score, both 0 at best.

    ECE is over 15 bins of equal width of the highest probability (Guo et al. 2017, equation 3,
    https://arxiv.org/abs/1706.04599). The Brier score is the sum over classes of squared errors, mean over examples
    (Brier 1950), from 0 to 2.
    """
    columns, probabilities = _probabilities(predictions)
    confidence = probabilities.max(axis=1)
    right = (predictions["label"] == predictions["prediction"]).to_numpy(dtype=float)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(right[bin_of == b].sum() - confidence[bin_of == b].sum()) for b in range(bins)]
    truth = np.array(columns)[None, :] == (SCORE + predictions["label"]).to_numpy()[:, None]
    return {
        "calibration/ece": float(sum(gaps) / len(predictions)),
        "calibration/brier": float(((probabilities - truth) ** 2).sum(axis=1).mean()),
    }


def fidelity(student: pd.DataFrame, teacher: pd.DataFrame) -> dict[str, float]:
    """Share of examples given the same class (rising), and mean KL(teacher || student) in nats (falling).

    Raises:
        ValueError: the two were not made on the same examples.
    """
    if list(student["example_id"]) != list(teacher["example_id"]):
        raise ValueError("fidelity needs predictions of the same examples in the same order")
    columns, reference = _probabilities(teacher)
    ours = student[columns].to_numpy()
    divergence = (reference * (np.log(np.maximum(reference, TINY)) - np.log(np.maximum(ours, TINY)))).sum(axis=1)
    same = student["prediction"].to_numpy() == teacher["prediction"].to_numpy()
    return {"fidelity/agreement": float(same.mean()), "fidelity/kl": float(max(divergence.mean(), 0.0))}


def _probabilities(predictions: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    columns = [column for column in predictions.columns if column.startswith(SCORE)]
    return columns, predictions[columns].to_numpy()
