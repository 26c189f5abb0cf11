"""Run the mailbox: `python -m sandbox.mailbox --smtp-port 0 --http-port 0`.

Both doors are on loopback, the page's elsewhere with `--host`; port 0 is one that the system
chooses. When both are open, one line of JSON with their addresses goes to standard output. SIGTERM
and SIGINT end it at once.
"""

import argparse
import asyncio
import json
import signal
import ssl
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from sandbox.mailbox.pages import create_app
from sandbox.mailbox.smtp import Mailbox, listen
from sandbox.server import LOOPBACK, serve


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.mailbox", description="A mailbox.")
    parser.add_argument("--smtp-port", type=int, default=0)
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--host", default=LOOPBACK, help="of the page: 0.0.0.0 in a container")
    parser.add_argument(
        "--tls-certificate", type=Path, help="PEM with certificate and key: offers STARTTLS"
    )
    wanted = parser.parse_args(arguments)
    uvloop.run(_serve(wanted.smtp_port, wanted.http_port, wanted.tls_certificate, host=wanted.host))


def tls_context(certificate: Path | None) -> ssl.SSLContext | None:
    """Return what STARTTLS needs; None, and with it no STARTTLS, without a certificate."""
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def _serve(smtp_port: int, http_port: int, certificate: Path | None, *, host: str) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    mailbox = Mailbox()
    async with AsyncExitStack() as stack:
        smtp = await stack.enter_async_context(
            listen(mailbox, port=smtp_port, tls_context=tls_context(certificate))
        )
        http = await stack.enter_async_context(serve(create_app(mailbox), http_port, host=host))
        sys.stdout.write(json.dumps({"smtp": smtp, "http": http}) + "\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    main()
