"""One Salesforce org: its records, who writes them, and what a write carries with it.

Every write through here keeps what Salesforce keeps by itself: the stamps, the full name, the
members of a campaign when their contact goes. What a caller may write is decided before
(`sandbox.salesforce.writing` for the API; the control interface may put in anything).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sandbox.clock import Clock
from sandbox.limits import Limits, SlidingWindow
from sandbox.provider import Account, ControlError
from sandbox.salesforce.ids import PREFIXES, new_id
from sandbox.salesforce.moments import written
from sandbox.salesforce.objects import kinds
from sandbox.salesforce.records import Held, Row, Table

DAY_S = 86_400
BIN_S = 15 * DAY_S  # How long a deleted record can be found by queryAll.
LICENCES = 10
# Calls in any 24 hours, and how many calls of 20 s and more may run at once (limits cheat sheet).
EDITIONS = {
    "enterprise": ("Enterprise Edition", 100_000 + LICENCES * 1_000, 25),
    "unlimited": ("Unlimited Edition", 100_000 + LICENCES * 5_000, 25),
    "professional": ("Professional Edition", 100_000 + LICENCES * 1_000, 25),
    "developer": ("Developer Edition", 15_000, 5),
}
API_DISABLED = "API_DISABLED_FOR_ORG"


class Knobs(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What `PUT /_sandbox/settings` may turn. Times are in seconds."""

    # Where the documentation leaves a choice, the harder one for a client is the usual one.
    session_ttl_s: int = 7_200  # After its last use; nobody tells the client.
    code_ttl_s: int = 900
    refresh_idle_s: int = 30 * DAY_S  # A refresh token that rests longer is dead.
    rotates_refresh_tokens: bool = True
    requires_pkce: bool = True
    app_installed: bool = True  # False: the login page refuses the app.
    user_active: bool = True
    instance_url: str | None = None  # None: the address that the sandbox was called at.
    api_enabled: bool = True
    api_disabled_code: str = API_DISABLED  # Or API_CURRENTLY_DISABLED.
    long_calls: int = 0  # Calls of 20 s and more that others have running now.
    commit_lag_s: float = 0.0  # How late what people change (control calls) becomes visible.
    hidden_objects: tuple[str, ...] = ()  # The user may not see these at all.
    read_only_objects: tuple[str, ...] = ()  # Neither created, changed nor deleted.
    undeletable_objects: tuple[str, ...] = ()
    views_setup: bool = True  # False: no `/limits`.
    duplicate_rule: str = "off"  # Or `warn` (a header saves anyway), or `block`.
    page_rows_max: int = 2_000  # Rows of a page, at most; large rows make smaller pages.
    bulk_delay_s: float = 0.0  # From a bulk job's creation to its end.


@dataclass(frozen=True, slots=True)
class Hand:
    """Who writes: whose name is on it, and how long their transaction lasts."""

    user: str
    lag_s: float = 0.0


class Org(Account):
    """One customer's org."""

    settings: Knobs

    def __init__(self, number: int, name: str, *, clock: Clock, edition: str) -> None:
        org_id = new_id(PREFIXES["Organization"], number, 1)
        limits = Limits(clock, _buckets(edition))
        super().__init__(org_id, name, clock=clock, limits=limits, settings=Knobs())
        self.number = number
        self.edition = edition
        self.tables = {kind.name.lower(): Table(kind, PREFIXES[kind.name]) for kind in kinds()}
        self.hidden_fields: set[tuple[str, str]] = set()  # Object and field, as they are written.
        self.unshared: set[str] = set()  # Records that the user is not shown.
        self.validations: list[tuple[str, str, str, str]] = []  # Object, field, value, message.
        self.invalid_ids: set[str] = set()  # Filled in unusable on purpose.
        self.seed = 1  # Of the people who are filled in unless another is named.
        self.edits = 0  # Gives each edit of `contacts:change` another value.
        self.went_with: dict[str, list[str]] = {}  # Members deleted with their contact or campaign.
        self.job_times_s: list[float] = []  # When each bulk query job was made.
        self._start()

    def _start(self) -> None:
        stamps = self._stamps(new_id(PREFIXES["User"], self.number, 1))
        edition = EDITIONS[self.edition][0]
        company = {"Name": self.name, "IsSandbox": False, "OrganizationType": edition}
        self.table("Organization").put({"Id": self.id, **company, "InstanceName": "SBX1", **stamps})
        # The first authorises the app, so the API writes in that name; the second is a colleague.
        self.user = self._user("Lola", "Owner", stamps)
        self.colleague = self._user("Cory", "Colleague", stamps)

    def _user(self, first: str, last: str, stamps: Mapping[str, Any]) -> Row:
        table = self.table("User")
        table.made += 1
        email = f"{first}.{last}@example.com".lower()
        names = {"LastName": last, "Name": f"{first} {last}", "IsActive": True}
        username = f"{first}.{last}@{self.id}.example.com".lower()
        user_id = new_id(table.prefix, self.number, table.made)
        return table.put({"Id": user_id, "Username": username, "Email": email, **names, **stamps})

    def set_limits(self, changes: dict[str, Any]) -> dict[str, Any]:
        rest = dict(changes)
        edition = rest.pop("edition", None)
        if edition is not None:
            self.edition = known_edition(edition)
            for bucket, windows in _buckets(self.edition).items():
                self.limits.replace(bucket, windows)
        return rest

    @property
    def now_s(self) -> int:
        """The present second: no stamp is finer here."""
        return int(self.clock.now_s())

    @property
    def now(self) -> str:
        return written(self.clock.now_s())

    @property
    def by_api(self) -> Hand:
        return Hand(self.user["Id"])

    @property
    def by_people(self) -> Hand:
        """Whoever changes records by control calls."""
        return Hand(self.colleague["Id"], self.settings.commit_lag_s)

    def table(self, name: str) -> Table:
        """Return the table of an object that is there; case does not matter."""
        return self.tables[name.lower()]

    def settle(self) -> None:
        """Let what is due happen: transactions end, and the bin forgets what is too old."""
        now_s = self.clock.now_s()
        horizon = written(now_s - BIN_S)
        for table in self.tables.values():
            table.settle(now_s)
            rows = table.rows
            for record_id in [each for each in table.bin if rows[each]["SystemModstamp"] < horizon]:
                self.erase(table.name, record_id)

    def create(self, object_name: str, values: Mapping[str, Any], by: Hand) -> Row:
        """Make a record of these values, which are not checked; return it."""
        table = self.table(object_name)
        table.made += 1
        record_id = new_id(table.prefix, self.number, table.made)
        owner = {"OwnerId": by.user} if "ownerid" in table.fields else {}
        own = {"Id": record_id, **table.defaults, **owner, **self._numbers(table)}
        kept = self._kept(table, {**own, **values})
        return self._put(table, {**kept, **self._stamps(by.user)}, by)

    def update(self, object_name: str, row: Row, values: Mapping[str, Any], by: Hand) -> Row:
        """Change values of a record: a write moves its stamps even if nothing is another."""
        stamps = {"LastModifiedDate": self.now, "LastModifiedById": by.user}
        kept = self._kept(self.table(object_name), {**row, **values})
        return self.touch(object_name, {**kept, **stamps}, by)

    def touch(self, object_name: str, row: Row, by: Hand) -> Row:
        """Store a record as a process of the system does: only SystemModstamp tells of it."""
        return self._put(self.table(object_name), {**row, "SystemModstamp": self.now}, by)

    def delete(self, object_name: str, row: Row, by: Hand, *, master: str | None = None) -> None:
        """Put a record into the bin; memberships go with their contact, lead or campaign."""
        gone = {"IsDeleted": True} | ({"MasterRecordId": master} if master else {})
        self.update(object_name, row, gone, by)
        reference = {"Contact": "ContactId", "Lead": "LeadId", "Campaign": "CampaignId"}
        if master is None and object_name in reference:
            members = self.members(reference[object_name], row["Id"])
            self.went_with[row["Id"]] = [each["Id"] for each in members]
            for member in members:
                self.update("CampaignMember", member, {"IsDeleted": True}, by)

    def undelete(self, object_name: str, row: Row, by: Hand) -> None:
        """Take a record back out of the bin, with the memberships that went with it."""
        self.update(object_name, row, {"IsDeleted": False, "MasterRecordId": None}, by)
        members = self.table("CampaignMember").rows
        for member_id in self.went_with.pop(row["Id"], ()):
            if member_id in members:
                self.update("CampaignMember", members[member_id], {"IsDeleted": False}, by)

    def erase(self, object_name: str, record_id: str) -> None:
        """Take a record away without a trace."""
        self.table(object_name).remove(record_id)

    def merge(self, object_name: str, master: Row, losers: Sequence[Row], by: Hand) -> None:
        """Merge records: the master keeps its id and values, and gets what hung on the others."""
        reference = f"{object_name}Id"
        for loser in losers:
            for member in self.members(reference, loser["Id"]):
                self._move_member(member, reference, master["Id"], by)
            cases = self.table("Case").having(reference, loser["Id"])
            for case in cases if object_name == "Contact" else ():
                self.update("Case", case, {"ContactId": master["Id"]}, by)
            self.delete(object_name, loser, by, master=master["Id"])
        self.update(object_name, master, {}, by)

    def convert(self, lead: Row, contact: Row | None, by: Hand) -> Row:
        """Convert a lead into a contact, a new one or this; return the contact."""
        names = ("FirstName", "LastName", "Email", "Phone", "MobilePhone", "Title")
        if contact is None:
            account = self.create("Account", {"Name": lead.get("Company") or "?"}, by)
            values = {name: lead[name] for name in names if lead.get(name) is not None}
            contact = self.create("Contact", {**values, "AccountId": account["Id"]}, by)
        converted = {
            "IsConverted": True,
            "ConvertedContactId": contact["Id"],
            "ConvertedAccountId": contact.get("AccountId"),
            "ConvertedDate": self.now[:10],
            "Status": "Closed - Converted",
        }
        for member in self.members("LeadId", lead["Id"]):
            self.update("CampaignMember", member, {"ContactId": contact["Id"]}, by)
        self.update("Lead", lead, converted, by)
        return contact

    def copy(self) -> dict[str, Held]:
        """Return what all tables hold now, for `restore`."""
        return {name: table.copy() for name, table in self.tables.items()}

    def restore(self, held: Mapping[str, Held]) -> None:
        """Take back every write since a copy, as the end of a transaction that failed does."""
        for name, table in self.tables.items():
            table.restore(held[name])

    def members(self, reference: str, record_id: str) -> list[Row]:
        """Return the campaign members that name a record in one of their references."""
        rows = self.table("CampaignMember").having(reference, record_id)
        return [each for each in rows if not each["IsDeleted"]]

    def sees(self, table: Table, row: Row) -> bool:
        """Tell whether the app's user is shown a record."""
        return not self.unshared or row["Id"] not in self.unshared

    def jobs_of_the_day(self) -> int:
        """Return how many bulk query jobs were made in the last 24 hours."""
        horizon_s = self.clock.now_s() - DAY_S
        self.job_times_s = [each for each in self.job_times_s if each > horizon_s]
        return len(self.job_times_s)

    def _move_member(self, member: Row, reference: str, to: str, by: Hand) -> None:
        """Let a merged record's membership go over, or go, if the master has it already."""
        there = {each["CampaignId"] for each in self.members(reference, to)}
        is_double = member["CampaignId"] in there
        change = {"IsDeleted": True} if is_double else {reference: to}
        self.update("CampaignMember", member, change, by)

    def _put(self, table: Table, row: Row, by: Hand) -> Row:
        visible_s = self.clock.now_s() + by.lag_s if by.lag_s else None
        return table.put(row, visible_s=visible_s)

    def _kept(self, table: Table, row: dict[str, Any]) -> dict[str, Any]:
        """Return a record with what Salesforce makes of its values."""
        if table.name in {"Contact", "Lead"}:
            names = (row.get("FirstName"), row.get("LastName"))
            row["Name"] = " ".join(each for each in names if each) or None
        elif table.name == "CampaignMember":
            row["HasResponded"] = row.get("Status") == "Responded"
        elif table.name == "Case":
            row["IsClosed"] = row.get("Status") == "Closed"
        return row

    def _numbers(self, table: Table) -> dict[str, str]:
        """Return the values that a record's number decides."""
        return dict.fromkeys(table.auto_numbers, f"{table.made:08d}")

    def _stamps(self, user: str) -> dict[str, str]:
        now = self.now
        return {
            "CreatedDate": now,
            "CreatedById": user,
            "LastModifiedDate": now,
            "LastModifiedById": user,
            "SystemModstamp": now,
        }


def known_edition(edition: object) -> str:
    if not isinstance(edition, str) or edition not in EDITIONS:
        message = f"there is no edition {edition}; there are: {', '.join(EDITIONS)}"
        raise ControlError(message)
    return edition


def _buckets(edition: str) -> dict[str, list[SlidingWindow]]:
    """Return the day's allocation: it is of any 24 hours, and all apps of the org share it."""
    return {"daily": [SlidingWindow(EDITIONS[edition][1], DAY_S)]}
