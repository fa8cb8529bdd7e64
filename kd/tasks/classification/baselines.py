"""Trivial baselines. Each returns a function from texts to probabilities `(examples, classes)`."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

WORDS = r"(?u)\w+|[^\w\s]|^$"
"""Words, single signs, and the empty text, so that every text has a term."""

Predict = Callable[[Sequence[str]], np.ndarray]


def majority(texts: Sequence[str], truth: Sequence[str], labels: Sequence[str]) -> Predict:
    """Predict the classes' shares in train for every text, hence the most frequent class."""
    counts = Counter(truth)
    shares = np.array([counts[label] for label in labels], dtype=float) / len(truth)
    return lambda requests: np.tile(shares, (len(requests), 1))


def bag_of_words(texts: Sequence[str], truth: Sequence[str], labels: Sequence[str]) -> Predict:
    """TF-IDF of single words and logistic regression; with one class in train, the majority baseline."""
    if len(set(truth)) < 2:
        return majority(texts, truth, labels)
    model = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, max_features=50_000, token_pattern=WORDS),
        LogisticRegression(C=10.0, max_iter=300),
    )
    model.fit(list(texts), list(truth))
    places = [list(labels).index(label) for label in model.classes_]

    def predict(requests: Sequence[str]) -> np.ndarray:
        probabilities = np.zeros((len(requests), len(labels)))
        probabilities[:, places] = model.predict_proba(list(requests))
        return probabilities

    return predict
