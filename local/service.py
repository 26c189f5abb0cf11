"""Runs one of our services as its image does: `python -m local.service services.writer …`.

What only this folder needs is installed beside what the services need, and structlog loads `rich`
wherever it finds it: 5 MB in every process that no image has.
"""

import sys
from runpy import run_module

# Python's own way to say that a module is not there.
# https://docs.python.org/3/reference/import.html#the-module-cache
NOT_IN_THE_IMAGE = ("rich",)


def main() -> None:
    """Run the module that the first argument names, with the others."""
    sys.modules.update(dict.fromkeys(NOT_IN_THE_IMAGE))  # type: ignore[arg-type]  # None is right
    sys.argv = sys.argv[1:]
    run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
