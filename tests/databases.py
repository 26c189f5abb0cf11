"""A database for every test: cloned from a template that was migrated once per session.

A clone takes about 20 ms (its files are copied, nothing goes through the log), so no test needs to
clean up after another, and each sees the schema exactly as the migrations leave it.
"""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

import migrations

T = TypeVar("T")

STARTS_WITHIN_S = 60.0


class Databases:
    """The databases of one server, as its owner sees them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._template = f"template_{uuid4().hex}"
        self._strategy = "file_copy"

    def migrate_template(self) -> None:
        """Make the template that all clones are made of."""
        in_own_loop(_answering(self._url))
        # To copy files takes two checkpoints: nothing where the disk is not waited for, and
        # seconds where it is. There the log is quicker.
        is_durable = self._ask("show fsync") == "on"
        self._strategy = "wal_log" if is_durable else "file_copy"
        self._ask(f"create database {self._template}")
        template = with_database(self._url, self._template)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(migrations.upgrade, template).result()

    def drop_template(self) -> None:
        """Leave the server as it was found."""
        self._ask(f"drop database {self._template} with (force)")

    @contextmanager
    def clone(self) -> Iterator[str]:
        """Make a database like the template for as long as the block lasts; its owner's address."""
        name = f"test_{uuid4().hex}"
        self._ask(f"create database {name} template {self._template} strategy {self._strategy}")
        try:
            yield with_database(self._url, name)
        finally:
            self._ask(f"drop database {name} with (force)")

    def _ask(self, statement: str) -> object:
        async def ask() -> object:
            connection = await asyncpg.connect(self._url)
            try:
                return await connection.fetchval(statement)
            finally:
                await connection.close()

        return in_own_loop(ask())


async def _answering(url: str) -> None:
    """Return once the server serves: it listens some moments before (SQLSTATE 57P03)."""
    async with asyncio.timeout(STARTS_WITHIN_S):
        while True:
            try:
                connection = await asyncpg.connect(url)
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.05)
            else:
                await connection.close()
                return


def in_own_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop of its own, out of the way of the one that runs the test."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def with_database(url: str, name: str) -> str:
    """Return the address of another database on the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def with_role(url: str, role: str) -> str:
    """Return the address of the same database for one of the services' roles, such as `writer`."""
    parts = urlsplit(url)
    password = os.environ.get("ROLE_PASSWORD")
    login = f"contactsync_{role}" + (f":{password}" if password else "")
    return parts._replace(netloc=f"{login}@{parts.hostname}:{parts.port}").geturl()
