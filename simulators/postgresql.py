"""A PostgreSQL server of our own in a temporary folder, to be killed and started again: for tests and benchmarks.

It listens on a Unix socket in its folder only, so it needs no free port, and nobody else reaches it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

USER = "postgres"
PATIENCE_S = 60.0
_DEBIAN = "/usr/lib/postgresql/*/bin"
_UNSAFE = ("fsync=off", "full_page_writes=off")


class NoPostgresql(Exception):
    """PostgreSQL's programs are not here; the message says how to get them."""


class Cluster:
    """One server on one folder. Not `durable`: commits outlive its kill but no power cut, and wait for no disk."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder = folder
        self._programs = programs()
        self._settings = ("listen_addresses=", f"unix_socket_directories={folder}", *(() if durable else _UNSAFE))
        self._numbers = itertools.count(1)
        self._server: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(folder, USER)
        command = ["initdb", "-D", str(folder / "data"), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]
        subprocess.run(self._unprivileged(command), check=True, stdout=subprocess.DEVNULL, cwd=folder)

    def start(self) -> None:
        """Start the server and wait until it takes connections; after a kill it recovers first."""
        deadline = time.monotonic() + PATIENCE_S
        self._launch()
        while not self._accepts():
            if time.monotonic() > deadline:
                raise TimeoutError(f"PostgreSQL does not start: {(self._folder / 'log').read_text()[-1000:]}")
            if self._server is None or self._server.poll() is not None:
                self._launch()  # the processes of its last life had not all ended yet
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL of the server: nothing is finished, every connection breaks."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the server without waiting for its clients, or for the disk."""
        self._end(signal.SIGQUIT)

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._folder / ".s.PGSQL.5432"

    def new_database(self) -> str:
        """The SQLAlchemy URL of an empty place: a schema, which costs a hundredth of a database and looks the same."""
        name = f"littoral_{next(self._numbers)}"
        with self._connect() as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        return f"postgresql+psycopg://{USER}@/{USER}?host={self._folder}&options=-csearch_path%3D{name}"

    def _launch(self) -> None:
        command = ["postgres", "-D", str(self._folder / "data")]
        command += [word for setting in self._settings for word in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(self._unprivileged(command), stdout=log, stderr=log, cwd=self._folder)

    def _accepts(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(host=str(self._folder), user=USER, dbname=USER, autocommit=True)

    def _end(self, how: signal.Signals) -> None:
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait()

    def _unprivileged(self, command: Sequence[str]) -> list[str]:
        """The command line; as Debian's user for it when we are root, which PostgreSQL refuses. It ends with us."""
        user = ("--reuid", USER, "--regid", USER, "--clear-groups") if os.geteuid() == 0 else ()
        return ["setpriv", *user, "--pdeathsig", "QUIT", str(self._programs / command[0]), *command[1:]]


def programs() -> Path:
    """The folder of PostgreSQL's server programs, the newest there are. Raises NoPostgresql."""
    found = sorted(Path("/").glob(f"{_DEBIAN[1:]}/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        raise NoPostgresql("PostgreSQL is not installed: scripts/setup test installs it")
    return Path(found[-1] if found else str(on_path)).parent


@contextmanager
def cluster(*, durable: bool) -> Iterator[Cluster]:
    """A running server, gone with its folder at the end. Raises NoPostgresql."""
    programs()
    with tempfile.TemporaryDirectory(prefix="littoral-pg-", ignore_cleanup_errors=True) as folder:
        made = Cluster(Path(folder), durable=durable)
        made.start()
        try:
            yield made
        finally:
            made.stop()
