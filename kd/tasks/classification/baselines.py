"""Trivial baselines, of which each is fitted to texts and their labels."""

from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

WORDS = r"(?u)\w+|[^\w\s]|^$"
"""Words, single signs, and the empty text, so that every text has a term."""


def classifiers() -> dict[str, BaseEstimator]:
    """Return them by name: the classes' shares in train for every text; TF-IDF of words and logistic regression."""
    return {
        "majority class": DummyClassifier(strategy="prior"),
        "bag of words": make_pipeline(
            TfidfVectorizer(sublinear_tf=True, max_features=50_000, token_pattern=WORDS),
            LogisticRegression(C=10.0, max_iter=300),
        ),
    }
