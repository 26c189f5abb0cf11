"""Serve providers' sandboxes: `python -m sandbox --port hubspot=0 --port brevo=0`.

Each provider listens on a loopback port of its own (0: chosen by the system). When all listen, one
line of JSON with their addresses goes to standard output, and to `--state-file` if one is given.
SIGTERM and SIGINT end it at once.
"""

import argparse
import asyncio
import gc
import importlib
import json
import pkgutil
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path

import uvloop

import sandbox
from sandbox.server import LOOPBACK, serve

# Each is a folder with a `state` and an `app`: whoever has one can be served.
PROVIDERS = tuple(
    sorted(
        each.name
        for each in pkgutil.iter_modules(sandbox.__path__)
        if each.ispkg and find_spec(f"sandbox.{each.name}.state") is not None
    )
)
PORT_MAX = 65_535
# Everything that an account has is looked through for rings again and again as it grows: with the
# usual 700 new objects before each look, a fifth of the time of an import of 100,000 contacts.
YOUNG_MAX = 50_000


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="Imitated providers.")
    parser.add_argument("--port", action="append", type=_port, metavar="PROVIDER=PORT", default=[])
    parser.add_argument("--host", default=LOOPBACK, help="0.0.0.0 in a container")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state-file", type=Path)
    wanted = parser.parse_args(arguments)
    ports = dict(wanted.port) or dict.fromkeys(PROVIDERS, 0)
    gc.set_threshold(YOUNG_MAX)
    uvloop.run(_serve_all(ports, host=wanted.host, seed=wanted.seed, state_file=wanted.state_file))


def _port(text: str) -> tuple[str, int]:
    """Return the provider and port of `hubspot=0`."""
    provider, _, port = text.partition("=")
    if provider not in PROVIDERS or not port.isdigit() or int(port) > PORT_MAX:
        message = (
            f"{text!r} is not PROVIDER=PORT with a provider of: {', '.join(PROVIDERS)}, "
            f"and a port from 0 to {PORT_MAX}"
        )
        raise argparse.ArgumentTypeError(message)
    return provider, int(port)


async def _serve_all(
    ports: dict[str, int], *, host: str, seed: int, state_file: Path | None
) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        addresses = {}
        for provider, port in ports.items():
            # By name, so that one provider can be served without loading the others.
            state = importlib.import_module(f"sandbox.{provider}.state").State(seed=seed)
            app = importlib.import_module(f"sandbox.{provider}.app").create_app(state)
            try:
                addresses[provider] = await stack.enter_async_context(serve(app, port, host=host))
            except OSError as error:
                message = (
                    f"sandbox: {provider} cannot listen on {host}:{port}: {error.strerror}."
                    f" Choose another --port, or {provider}=0 for any that is free."
                )
                raise SystemExit(message) from error
        line = json.dumps(addresses)
        if state_file:
            await asyncio.to_thread(state_file.write_text, line + "\n")
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    main()
