"""Keep everything running and say where it is: what `python -m local up` does."""

import asyncio
import json
from pathlib import Path

from local import folders, wizard
from local.api import Api
from local.errors import StackError
from local.outcome import Wishes
from local.stack import Stack
from local.supervisor import Report
from local.wizard import Workspace


async def stay(stack: Stack, state: Path, report: Report) -> None:
    """Make a workspace, write the state file, and wait to be cancelled; the file goes then.

    The file is written anew whenever a process is started again: it has its pid.
    """
    async with Api.connect(stack.api, stack.operator_key) as operator:
        workspace = await wizard.create_workspace(operator, quota_limit=Wishes().quota)

    def write() -> None:
        _write(state, stack, workspace)

    stack.supervisor.on_restart(write)
    write()
    try:
        report(f"ready; everything about it is in {state}")
        report(f"config API       {stack.api}/docs")
        report(f"mailbox          {stack.mailbox}")
        for provider, url in stack.providers.items():
            report(f"{provider:<16} {url}")
        report("Ctrl-C ends it")
        await asyncio.Event().wait()
    finally:
        await asyncio.to_thread(state.unlink, missing_ok=True)


def checked(state: Path) -> Path:
    """Return a state file's absolute path; raises `StackError` if it cannot be written."""
    if state.is_dir():
        what = f"{state} is a folder"
        raise StackError(what, "name a file for the state")
    return folders.writable(state.absolute().parent) / state.name


def _write(state: Path, stack: Stack, workspace: Workspace) -> None:
    content = {
        "api": stack.api,
        "mailbox": stack.mailbox,
        "kafka": stack.kafka,
        "database": stack.database,
        "workspace": {"id": workspace.id, "api_key": workspace.api_key},
        "operator": {"api_key": stack.operator_key},
        "providers": dict(stack.providers),
        "processes": stack.supervisor.pids(),
    }
    unfinished = state.with_name(f"{state.name}.new")
    unfinished.touch(mode=0o600)  # It holds keys.
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    unfinished.replace(state)
