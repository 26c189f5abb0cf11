"""Become another program that the kernel kills when our parent dies, in whatever way.

    python -I -S leash.py PARENT_PID USER GROUP COMMAND [ARGUMENT ...]

USER and GROUP are numbers, or `-` to stay who we are. The parent cannot do this for its children:
between fork and exec a process with threads may do next to nothing. Only Linux knows such a wish;
elsewhere the program just starts, and the next start ends what it finds (`local.orphans`). Imports
nothing of ours: it runs for a hundredth of a second before every process.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # From <linux/prctl.h>.


def main() -> None:
    parent, user, group, *command = sys.argv[1:]
    if user != "-":
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    if sys.platform == "linux":
        # After the change of user, which would clear it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            sys.exit("the parent died while this started")
    try:
        os.execvp(command[0], command)  # noqa: S606  # no shell is wanted
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
