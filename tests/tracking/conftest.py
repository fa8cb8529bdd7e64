"""The store asked in both ways: a database here, and as through a server, whose client has no database."""

from typing import Any

import pytest
from mlflow.tracking._tracking_service.client import TrackingServiceClient


class Remote:
    """A store with no more than a server's client has."""

    LACKS = ("ManagedSessionMaker", "get_metric_history_bulk")

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name in self.LACKS:
            raise AttributeError(name)
        return getattr(self._store, name)


@pytest.fixture
def through_a_server(monkeypatch):
    """From now on the store is asked as if through a server."""
    whole = TrackingServiceClient.store.fget

    def asked() -> None:
        monkeypatch.setattr(TrackingServiceClient, "store", property(lambda self: Remote(whole(self))))

    return asked
