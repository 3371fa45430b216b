"""MariaDB server on localhost for the tests; same interface as the PostgreSQL server in conftest.py."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
from pathlib import Path
from typing import Any

import pymysql

READY_TIMEOUT_S = 60.0


class MariaDBServer:
    """Server with one user that has `password`; root connects through the socket without a password."""

    password = "se/c@ret"

    def __init__(self, install: str, daemon: str, folder: Path, port: int) -> None:
        self._daemon, self._folder, self._port = daemon, folder, port
        self._user: dict[str, Any] = {"user": "mysql", "extra_groups": []} if os.getuid() == 0 else {}
        if self._user:
            shutil.chown(folder, "mysql")
        command = [install, "--no-defaults", f"--datadir={folder}/data", "--skip-test-db"]
        command += ["--auth-root-authentication-method=normal", "--force"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._num_databases = 0
        self.start()
        self.execute(f"CREATE USER selfcon IDENTIFIED BY '{self.password}'")
        self.execute("GRANT ALL ON *.* TO selfcon")

    def new_database(self) -> str:
        """Return the URL of an empty database, as on the command line."""
        self._num_databases += 1
        name = f"test_{self._num_databases}"
        self.execute(f"CREATE DATABASE {name}")
        secret = urllib.parse.quote(self.password, safe="")
        return f"mysql://selfcon:{secret}@127.0.0.1:{self._port}/{name}"

    def execute(self, statement: str) -> list[Any]:
        """Run a statement in a separate session of root, and return its rows."""
        with self.connected() as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def connected(self, database: str | None = None) -> Any:
        """Return a connection of root."""
        return pymysql.connect(
            unix_socket=f"{self._folder}/socket", user="root", database=database, autocommit=True
        )

    def end_sessions(self) -> None:
        """Kill all sessions of the user."""
        for (number,) in self.execute("SELECT id FROM information_schema.processlist WHERE user = 'selfcon'"):
            self.execute(f"KILL {number}")

    def start(self) -> None:
        """Start the server if it is stopped, and wait until it accepts queries."""
        if self._process is not None:
            return
        command = [self._daemon, "--no-defaults", f"--datadir={self._folder}/data", f"--port={self._port}"]
        command += [f"--socket={self._folder}/socket", f"--pid-file={self._folder}/pid"]
        command += ["--bind-address=127.0.0.1"]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._user)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "server.log").read_text())
            time.sleep(0.05)
        self.execute("SELECT 1")

    def _listens(self) -> bool:
        """Whether the server accepts connections; PyMySQL leaks its socket if it does not."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(f"{self._folder}/socket") == 0

    def stop(self) -> None:
        """Kill the server; all sessions are lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=30)
            self._process = None
