"""A study in a journal of its own, and one in a PostgreSQL server of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from radflow.search.storage import PostgreSQL, StudyStorage, study_storage


@pytest.fixture
def journal(tmp_path: Path) -> StudyStorage:
    return study_storage("journal", tmp_path / "study")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server on loopback; skipped where its programs are not installed."""
    # Debian installs the server's programs outside PATH.
    folders = os.pathsep.join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
    initdb, server = shutil.which("initdb", path=folders), shutil.which("pg_ctl", path=folders)
    if not initdb or not server:
        pytest.skip("PostgreSQL's initdb and pg_ctl were not found (Debian: apt-get install postgresql)")
    folder = Path(mkdtemp(prefix="postgresql-"))  # pytest's folders are for their owner only
    owner: dict[str, int] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        account = next((each for each in pwd.getpwall() if each.pw_name == "postgres"), None)
        if account is None:
            folder.rmdir()
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        owner = {"user": account.pw_uid, "group": account.pw_gid}
        os.chown(folder, account.pw_uid, account.pw_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    database = folder / "database"
    quiet = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL, **owner}
    subprocess.run([initdb, "-D", str(database), "-A", "trust", "-U", "radflow", "--no-sync"], **quiet)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    subprocess.run([server, "-D", str(database), "-o", options, "-l", str(folder / "log"), "-w", "start"], **quiet)
    yield PostgreSQL(f"postgresql://radflow@127.0.0.1:{port}/postgres")
    subprocess.run([server, "-D", str(database), "-m", "immediate", "stop"], **quiet)
    shutil.rmtree(folder)
