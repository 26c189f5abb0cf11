"""One ActiveCampaign account: everything it holds, and the knobs a test may turn."""

import hashlib
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from sandbox.activecampaign import imports
from sandbox.activecampaign.contacts import Contacts
from sandbox.activecampaign.fields import Fields, Tags
from sandbox.activecampaign.imports import Batch, ImportBody
from sandbox.activecampaign.lists import Lists
from sandbox.activecampaign.triggers import Cause, Triggers
from sandbox.clock import Clock
from sandbox.limits import Limits, SlidingWindow
from sandbox.provider import Account
from sandbox.wishes import Share

MINUTE_S = 60.0
# Of the account, whoever calls: "5 requests per second per account"; the importer counts apart.
WINDOWS = {"api": (5, 1.0), "import": (100, MINUTE_S), "import_single": (20, MINUTE_S)}

Count = Annotated[int, msgspec.Meta(ge=0)]


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """What `PUT /_sandbox/settings` may change of an account."""

    import_delay_s: Annotated[float, msgspec.Meta(ge=0)] = 0.3  # From queued to done.
    import_outcome: Literal["completed", "failed", "interrupted"] = "completed"
    import_silent_failures: Share = 0.0  # Rows that are neither applied nor among the failures.
    # Where `exclude_automations` counts: the page says the payload, its example has it in the row.
    exclude_automations_in: Literal["payload", "contact", "either"] = "either"
    honours_include: bool = True  # False: a page of contacts comes without what belongs to them.
    contact_limit: Count | None = None  # Of the plan; over it, rows of an import fail.
    # The help pages say that single calls still add contacts then; 403 was feared, never seen.
    adds_over_limit: bool = True
    may_manage_lists: bool = True  # False: 403 for lists, declared as plain text.
    key_enabled: bool = True  # False: the key was taken back, 403.


class ActiveCampaignAccount(Account):
    """An account with its contacts, lists and fields; each of its users has a key."""

    settings: Settings

    def __init__(self, account_id: str, name: str, api_key: str, *, clock: Clock) -> None:
        limits = Limits(
            clock, {bucket: [SlidingWindow(*window)] for bucket, window in WINDOWS.items()}
        )
        super().__init__(account_id, name, clock=clock, limits=limits, settings=Settings())
        self.keys = [api_key]  # One of each user; a user's id is the place.
        self.triggers = Triggers()
        self.contacts = Contacts(clock)
        self.fields = Fields()
        self.tags = Tags()
        self.lists = Lists(clock.now_s())
        self.excluded: set[str] = set()  # Addresses that the account never wants.
        self.batches: dict[str, Batch] = {}
        self._causes: dict[str, Cause] = {}  # Of imports that wait.

    @property
    def host(self) -> str:
        """The name that the account has in its address."""
        return f"{self.name}.api-us1.com"

    @property
    def has_room(self) -> bool:
        """Tell whether the plan allows one more contact."""
        limit = self.settings.contact_limit
        return limit is None or len(self.contacts) < limit

    @property
    def now_s(self) -> float:
        return self.clock.now_s()

    @property
    def loudly(self) -> Cause:
        """What a single call sets off: everything, for no parameter says otherwise."""
        return Cause(self.triggers)

    def queue(self, body: ImportBody) -> tuple[Batch, int]:
        """Accept an import; return it, and how many of its rows were queued."""
        number = len(self.batches) + 1
        batch = Batch(
            str(UUID(int=(0xAC << 112) | number)),
            body.contacts,
            self.now_s,
            self.now_s + self.settings.import_delay_s,
            body.callback,
            outcome=self.settings.import_outcome,
        )
        place = self.settings.exclude_automations_in
        in_rows = all(row.exclude_automations for row in body.contacts)
        excludes = (body.exclude_automations and place != "contact") or (
            in_rows and place != "payload"
        )
        self.batches[batch.id] = batch
        self._causes[batch.id] = Cause(self.triggers, automations=not excludes, others=False)
        queued = sum(str(row.email).lower() not in self.excluded for row in body.contacts)
        return batch, queued

    def settle(self) -> None:
        """Carry out what is due. Every call does it first, so no task has to run beside them."""
        due = [
            self.batches[each] for each in self._causes if self.batches[each].due_s <= self.now_s
        ]
        for batch in due:
            share = self.settings.import_silent_failures
            imports.carry_out(self, batch, self._causes.pop(batch.id), silent_share=share)


def key_of(name: str, number: int) -> str:
    """Return the key of an account's user: the same on every start."""
    return hashlib.blake2b(f"key {number} of {name}".encode(), digest_size=36).hexdigest()
