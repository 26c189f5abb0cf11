"""What goes wrong outside our code when servers start, told with its remedy.

A `StackError` is for a person in a terminal: what happened, where, and what to do about it. It is
shown without a traceback.
"""


class StackError(Exception):
    """The local stack cannot start, or cannot go on."""

    def __init__(self, what: str, remedy: str) -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what}\n  Remedy: {remedy}")
