"""Runs pytest again and again in a fresh process each, without the seconds that starting takes.

It has imported what others wrote and nothing of ours, so each child sees our code as it lies in the
folder at that moment. Started in that folder, by its path: `python tests/rules/nursery.py`. A line
on standard input is a JSON list of pytest's arguments and a file for what it says; the answer is
its exit status on a line.
"""

import gc
import importlib
import json
import os
import sys
from pathlib import Path

# What takes long to import. One that is missing here costs time, nothing else.
_IMPORTED = (
    *("aiohttp", "aiokafka", "aiosmtpd.controller", "aiosmtplib", "alembic.command", "asyncpg"),
    *("cryptography.hazmat.primitives.ciphers.aead", "email_validator", "fastapi", "httpx", "jgo"),
    *("hypothesis.strategies", "jinja2", "msgspec", "psutil", "pydantic", "pytest"),
    *("prometheus_client", "rich.console", "sqlalchemy.ext.asyncio", "structlog", "uvicorn"),
)
# Modules that pytest would rather have rewritten are here before it: their asserts are not ours.
_QUIET = ("-W", "ignore::pytest.PytestAssertRewriteWarning")


def main() -> None:
    """Answer until the input ends."""
    for name in _IMPORTED:
        importlib.import_module(name)
    sys.path[0] = str(Path.cwd())  # Else it is the folder of this file.
    gc.freeze()  # Children share what is here, as long as nobody writes to it.
    for line in sys.stdin:
        arguments, said = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(arguments, said)
        _, ended = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(ended)}\n")
        sys.stdout.flush()


def _run(arguments: list[str], said: str) -> None:
    """Become pytest; what it and its processes say goes into a file."""
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    import pytest  # noqa: PLC0415  # it is there already

    status = 1
    try:
        status = int(pytest.main([*_QUIET, *arguments]))
        sys.stdout.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
