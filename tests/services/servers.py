"""Servers that a test starts, and may kill: Debian's PostgreSQL and `mlflow server`."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import sqlalchemy

PASSWORD = "sesame"
STARTS_S = 120


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def execute(uri: str, statement: str) -> None:
    """Run one SQL statement."""
    engine = sqlalchemy.create_engine(uri, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(statement))
    engine.dispose()


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL of its own; yields the URI of its empty database `mlflow`. Skips where there is none."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if programs is None or not (programs / "initdb").exists():
        pytest.skip("PostgreSQL's server is not installed here (Debian: apt install postgresql)")
    # PostgreSQL refuses to run as root, and its user may not look into pytest's folders.
    other = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="kd-postgresql-"))
    port = free_port()

    def call(program: str, *words: str) -> None:
        command = [str(programs / program), *words]
        done = subprocess.run(command, cwd=folder, **other, stdout=log, stderr=subprocess.STDOUT, check=False)
        assert done.returncode == 0, (folder / "log").read_text()[-3000:]

    try:
        (folder / "password").write_text(PASSWORD)
        if other:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        with (folder / "log").open("w") as log:
            access = ("--auth", "scram-sha-256", "--username", "kd", "--pwfile", "password")
            call("initdb", "--pgdata", "data", "--encoding", "UTF8", "--no-sync", *access)
            settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
            call("pg_ctl", "--pgdata", "data", "--options", settings, "--log", "server.log", "--wait", "start")
            try:
                place = f"postgresql+psycopg2://kd:{PASSWORD}@127.0.0.1:{port}"
                execute(f"{place}/postgres", "CREATE DATABASE mlflow")
                yield f"{place}/mlflow"
            finally:
                call("pg_ctl", "--pgdata", "data", "--mode", "immediate", "--wait", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Server:
    """A running `mlflow server`, in a process group of its own.

    Attributes:
        folder: with its log, and its artifacts.
        words: its options.
        port: where it listens.
        process: the group's leader; None while it is down.
    """

    folder: Path
    words: tuple[str, ...]
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def uri(self) -> str:
        """What clients call it."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, **env: str) -> None:
        """Start it, and wait until it answers."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        network = ("--host", "127.0.0.1", "--port", str(self.port), "--workers", "1")
        proxy = ("--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts"))
        allowed = ("--allowed-hosts", f"127.0.0.1:{self.port},localhost:{self.port}")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *network, *proxy, *allowed, *self.words],
                cwd=self.folder,
                env=own | env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        limit = time.monotonic() + STARTS_S
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
            assert time.monotonic() < limit, (self.folder / "log").read_text()[-3000:]
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it at once, with everything it started."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.uri}/health", timeout=5).ok
        except requests.RequestException:
            return False


@contextmanager
def mlflow_server(folder: Path, *words: str, **env: str) -> Iterator[Server]:
    """Run `mlflow server` with proxied artifacts and allowed hosts; `words` name its store, `env` adds variables."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder, words, free_port())
    try:
        server.start(**env)
        yield server
    finally:
        server.kill()
