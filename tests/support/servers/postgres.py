"""A real PostgreSQL server in a temporary folder, on a unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

PASSWORD = "p@ss/word%20 :1"  # of the kind that addresses have to escape
PLACES = (
    "/usr/local/bin",
    "/usr/bin",
    *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin"))),
)


def find_program(name: str) -> str:
    """PostgreSQL's program of that name; skips where it isn't installed."""
    found = shutil.which(name, path=os.pathsep.join((*PLACES, os.environ.get("PATH", ""))))
    if found is None:
        pytest.skip(f"PostgreSQL isn't installed: no {name}")
    return found


def other_user() -> dict[str, int]:
    """Who runs it: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid}
    pytest.skip("PostgreSQL refuses to run as root, and there is no other user")


class Postgres:
    """A database cluster with the role and the database `mlflow`; logins need a password."""

    def __init__(self) -> None:
        self.initdb, self.program = find_program("initdb"), find_program("postgres")
        self.user = other_user()
        # Not pytest's folder: another user may not enter that, and a socket's path is short.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        if self.user:
            os.chown(self.folder, self.user["user"], self.user["group"])
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Postgres:
        secret = self.folder / "password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o644)
        subprocess.run(
            [
                *(self.initdb, "--pgdata", str(self.folder / "data"), "--username", "mlflow"),
                *("--auth", "scram-sha-256", "--pwfile", str(secret), "--no-sync"),
                *("--encoding", "UTF8", "--locale", "C"),
            ],
            check=True, capture_output=True, cwd=self.folder, **self.user,
        )  # fmt: skip
        self.start()
        import psycopg2

        connection = psycopg2.connect(self.uri("postgres"), password=PASSWORD)
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE mlflow")
        connection.close()
        return self

    def start(self) -> None:
        words = [self.program, "-D", str(self.folder / "data"), "-k", str(self.folder), "-h", ""]
        words += ["-c", "fsync=off", "-c", "shared_buffers=8MB"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                words, cwd=self.folder, stdout=log, stderr=log, **self.user
            )
        for _ in range(600):
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            if b"ready to accept" in (self.folder / "log").read_bytes().rpartition(b"starting")[2]:
                return
            time.sleep(0.05)
        raise RuntimeError("PostgreSQL isn't ready")

    def stop(self) -> None:
        """End it at once, with all its connections."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(timeout=30)
            self.process = None

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def uri(self, database: str = "mlflow", scheme: str = "postgresql") -> str:
        """Its address without the password, which is `PASSWORD`."""
        return f"{scheme}://mlflow@/{database}?host={self.folder}"
