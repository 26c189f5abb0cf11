"""Takes sentences of PROTOCOL.md out of the code, one at a time, to see the simulation miss them.

A mutation names a function, a piece of its source, and what stands there instead. It fails loudly
if the piece is not there any more: then the code was changed, and the mutation has to follow.
Rules that live in SQL are taken out of their form in memory.
"""

import functools
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType

from tests.simulation.loop import StandstillError
from tests.simulation.memory.ledger import LedgerError
from tests.simulation.memory.writer import UniqueError
from tests.simulation.oracle import ViolationError

WRITER = "services.writer"
MEMORY = "tests.simulation.memory"
# What the oracle says, and what PostgreSQL would refuse.
MISSED = (ViolationError, LedgerError, UniqueError, StandstillError)


@dataclass(frozen=True, slots=True)
class Cut:
    """One change of one function: `target` is its module, a colon, and its name therein."""

    target: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """A sentence that is taken out, the sequence that it makes safe, and a seed that needs it."""

    name: str
    sentence: str
    cuts: tuple[Cut, ...]
    seed: int


def _function(target: str) -> FunctionType:
    module, _, path = target.partition(":")
    found = functools.reduce(getattr, path.split("."), importlib.import_module(module))
    found = inspect.unwrap(found)  # type: ignore[arg-type]  # a function, decorated or not
    assert isinstance(found, FunctionType)
    return found


@contextmanager
def _cut(cut: Cut) -> Iterator[None]:
    """Run a function's changed source instead of it, wherever it is known already."""
    function = _function(cut.target)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(cut.old) == 1, f"{cut.target} has not exactly one {cut.old!r}"
    while source.startswith("@"):
        source = source.partition("\n")[2]
    changed: dict[str, FunctionType] = {}
    exec(source.replace(cut.old, cut.new), function.__globals__, changed)
    before = function.__code__
    function.__code__ = changed[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = before


@contextmanager
def applied(mutation: Mutation) -> Iterator[None]:
    """Let production be without the sentence as long as the block lasts."""
    with ExitStack() as stack:
        for cut in mutation.cuts:
            stack.enter_context(_cut(cut))
        yield


MUTATIONS = (
    Mutation(
        "the_token_of_the_newest_claim",
        "A run_read, a deletion or a leave counts if its token is the one in its own run's row.",
        (
            Cut(
                f"{MEMORY}.writer:_runs",
                "Run(row.fencing",
                "Run(tables.schedules[row.integration].fencing",
            ),
        ),
        seed=14,
    ),
    Mutation(
        "doubtful_is_not_read_back",
        "For any other effect a doubtful contact is first read back at the unit's identity.",
        (
            Cut(
                f"{WRITER}.classify:must_read_back",
                "if contact != item.contact or not (unit.is_for(item) and _is_active(item, view)):",
                "if contact != item.contact:",
            ),
        ),
        seed=47,
    ),
    Mutation(
        "read_back_is_not_linked",
        "What is found at the unit's identity is linked and posted.",
        (
            Cut(
                f"{WRITER}.conclude:conclude_read_back",
                "changes.links[task.contact] = linked_after(task, link)",
                "assert link is link",
            ),
        ),
        seed=47,
    ),
    Mutation(
        "parking_releases",
        "A unit is never released because its contact parks.",
        (
            Cut(
                f"{WRITER}.conclude:park",
                "    approved = item.approved if",
                "    unit = view.units.get(item.contact)\n"
                "    if unit is not None and not unit.in_import:\n"
                "        changes.release(unit)\n"
                "    approved = item.approved if",
            ),
        ),
        seed=3,
    ),
    Mutation(
        "a_unit_is_not_taken_along",
        "A later batch, drain or import takes an existing unit along instead of another.",
        (
            Cut(
                f"{WRITER}.write:Writing._hold",
                "if item.contact in account.units]",
                "if item.contact in ()]",
            ),
            Cut(
                f"{WRITER}.write:Writing._plan",
                "if item.contact not in account.units]",
                "if item.contact not in ()]",
            ),
        ),
        seed=14,
    ),
    Mutation(
        "an_unanswered_import_is_not_looked_for",
        "An import whose answer was lost is never sent again before it is ruled out.",
        (
            Cut(
                f"{WRITER}.imports:Imports.send",
                "except UnknownOutcomeError:",
                "except ZeroDivisionError:",
            ),
        ),
        seed=4,
    ),
    Mutation(
        "an_import_is_sent_before_it_is_stored",
        "After the single upserts, in the transaction of step 6: the import; then its POST.",
        (
            Cut(
                f"{WRITER}.write:Writing.take",
                "    settled = await self._settle(turn, results)\n",
                "    if turn.import_intent is not None and turn.destination is not None:\n"
                "        intent = turn.account.intents[turn.import_intent]\n"
                "        await self._imports.send(turn.account, turn.destination, intent)\n"
                "        if intent.intent not in turn.account.intents:\n"
                "            turn.import_intent = None\n"
                "    settled = await self._settle(turn, results)\n"
                "    if turn.import_intent is not None:\n"
                "        return settled\n",
            ),
        ),
        seed=4,
    ),
    Mutation(
        "a_completed_import_is_believed",
        "All rows are read back and compared by hash: a completed import is not believed.",
        (
            Cut(
                f"{WRITER}.imports:Imports._judge",
                "away = intent.rows.compressed(",
                "away = intent.rows[:0] if intent.has_ended else intent.rows.compressed(",
            ),
        ),
        seed=4,
    ),
    Mutation(
        "a_leave_is_superseded_by_a_mapping",
        "Deletes and leaves do not depend on the mapping: never superseded for it.",
        (
            Cut(
                f"{WRITER}.classify:_is_superseded",
                "return item.wish is Wish.UPSERT and run",
                "return run",
            ),
        ),
        seed=19,
    ),
    Mutation(
        "a_removed_field_supersedes",
        "Upserts settle as superseded only if a newer full run is due or running.",
        (
            Cut(
                f"{MEMORY}.writer:_is_outdated",
                "return is_due or",
                "newest = tables.integrations[run.integration].mapping_version\n"
                "    return newest > run.mapping_version or",
            ),
        ),
        seed=12,
    ),
    Mutation(
        "a_joiner_is_forgotten_with_his_poller",
        "Who is new is still a joiner until a run that read him has ended.",
        (
            Cut(
                "services.poller.plan:has_newcomers",
                "return assignment.last_run_no > settled",
                "return False and settled",
            ),
        ),
        seed=302,
    ),
    Mutation(
        "a_joiner_is_stored_too_late",
        "Who is new is stored before his page is published: at once a member for leaving.",
        (
            Cut(
                "services.poller.poll:Run._advance",
                "if change.op is upsert]",
                "if change.op is upsert and self.is_full]",
            ),
        ),
        seed=1,
    ),
    Mutation(
        "a_tombstone_is_compared_by_time",
        "Against a tombstone only run_no is compared, and on a tie the tombstone is newer.",
        (
            Cut(
                f"{WRITER}.values:is_older",
                "if is_tombstone == other_is_tombstone:",
                "if is_tombstone in (False, True):",
            ),
        ),
        seed=52,
    ),
    Mutation(
        "unchanged_leaves_an_older_row",
        "Unchanged removes an older parked row and moves the link's version up.",
        (
            Cut(
                f"{WRITER}.conclude:conclude",
                "changes.links[item.contact] = link\n"
                "            changes.drop_row(item.contact, view)",
                "assert link is not None",
            ),
        ),
        seed=0,
    ),
    Mutation(
        "rejected_is_not_remembered",
        "Rejected and filtered are stored in links as versions; they remove an older parked row.",
        (
            Cut(
                f"{WRITER}.conclude:conclude",
                "if remembered is not None:\n"
                "                changes.links[item.contact] = remembered\n"
                "            changes.drop_row(item.contact, view)",
                "assert remembered is remembered",
            ),
        ),
        seed=1,
    ),
    Mutation(
        "turns_cross",
        "Within the owner, steps 1 to 6 of a live batch and of a drain take turns.",
        (
            Cut(
                f"{WRITER}.account:Accounts.turn",
                "self._locks.setdefault(connection, asyncio.Lock())",
                "asyncio.Lock()",
            ),
        ),
        seed=12,
    ),
    Mutation(
        "a_tombstone_keeps_its_address",
        "A tombstone keeps its address only until another claims it.",
        (
            Cut(
                f"{MEMORY}.writer:_linked",
                "if link.state is LinkState.LINKED and link.key is not None",
                "if link.key is not None",
            ),
        ),
        seed=5,
    ),
    Mutation(
        "who_comes_back_does_not_join",
        "Membership is sent when a contact comes back after our own removal.",
        (
            Cut(
                f"{WRITER}.classify:_joins",
                "or link.key is None or link.removed_by_us",
                "or link.key is None",
            ),
        ),
        seed=0,
    ),
    Mutation(
        "a_replayed_run_read_decides_anew",
        "A run_read decides once per run, and the decision is stored with the run.",
        (
            Cut(
                f"{MEMORY}.writer:decide_email_changes",
                "rows[run].email_decision or decision",
                "decision",
            ),
        ),
        seed=41,
    ),
    Mutation(
        "rows_of_an_abandoned_run_wait_for_it",
        "A run_read decides over every parked row with run_no up to its own.",
        (
            Cut(
                f"{MEMORY}.writer:changed_addresses",
                "row.item.version.run_no <= run_no",
                "row.item.version.run_no == run_no",
            ),
        ),
        seed=89,
    ),
    Mutation(
        "a_refused_address_is_forgotten",
        "The refused address is kept on the link, and the row becomes an ordinary update.",
        (
            Cut(
                f"{WRITER}.classify:_changed_address",
                "if link.refused == key:",
                "if link.refused == key and not key:",
            ),
        ),
        seed=1,
    ),
    Mutation(
        "a_bulk_change_passes",
        "Several: refused.",
        (
            Cut(
                f"{WRITER}.email_changes:decide",
                "and len(marks) == 1)",
                "and len(marks) >= 1)",
            ),
        ),
        seed=1,
    ),
    Mutation(
        "a_429_makes_an_unknown_try_known",
        "An unknown try stays unknown whatever a repeat is answered, except success.",
        (
            Cut(
                f"{WRITER}.calls:Caller._not_sent",
                "if task.contact in self._doubted:",
                "if task.contact in ():",
            ),
        ),
        seed=29,
    ),
    Mutation(
        "who_is_usual_may_take_a_linked_address",
        "Two source contacts with one address: the older link or open unit owns it.",
        (
            Cut(
                f"{WRITER}.usual:_taken",
                "column.shared.union(seen.owned, claims, rows)",
                "column.shared.union(claims, rows)",
            ),
        ),
        seed=27,
    ),
    Mutation(
        "addresses_are_not_claimed",
        "Addresses are claimed: unique over links, open units and the batch itself.",
        (
            Cut(
                f"{WRITER}.classify:_unless_it_must_wait",
                "view.claims.update(claims_of(effect.task))",
                "assert effect.task is not None",
            ),
        ),
        seed=65,
    ),
    Mutation(
        "the_cursor_is_stored_before_the_acknowledgement",
        "`from` moves only after the whole sweep is published and acknowledged.",
        (
            Cut(
                "services.poller.poll:_Unacknowledged.settle",
                "await acknowledged",
                "assert acknowledged",
            ),
        ),
        seed=88,
    ),
    Mutation(
        "a_lapsed_lease_is_not_waited_out",
        "Who takes over a lapsed lease waits out the calls that may still be on their way.",
        (
            Cut(
                f"{WRITER}.lease:Leases.acquire",
                "self._late_call_s - lapsed[0] if lapsed else 0.0",
                "0.0 if lapsed else 0.0",
            ),
        ),
        seed=901,
    ),
    Mutation(
        "the_token_is_not_looked_at",
        "Every write to links, intents and parked matches the token.",
        (Cut(f"{MEMORY}.writer:_held", "or row.fencing != fencing", "or row.fencing < fencing"),),
        seed=652,
    ),
    Mutation(
        "a_step_is_stored_twice",
        "A transaction whose answer was lost is run again, and changes nothing the second time.",
        (Cut(f"{MEMORY}.writer:begin_step", "row.last_step != step", "row.last_step is not True"),),
        seed=505,
    ),
    Mutation(
        "an_effect_needs_no_share",
        "A budget row per account and slot, taken by the writer.",
        (
            Cut(
                f"{WRITER}.write:Writing._share_out",
                "if not needed:",
                "if needed is not None:",
            ),
        ),
        seed=2,
    ),
    Mutation(
        "one_share_too_many",
        "At most so many contacts of an external account in a slot (AC5).",
        (
            Cut(
                f"{MEMORY}.writer:take_shares",
                "if left > 0 and",
                "if left > -1 and",
            ),
        ),
        seed=2,
    ),
    Mutation(
        "a_lowered_limit_grants",
        "posted + held stays within the limit always; below use, nothing is granted.",
        (
            Cut(
                f"{MEMORY}.ledger:hold",
                "max(0, min(wanted, period.limit - period.posted - period.held))",
                "min(wanted, abs(period.limit - period.posted - period.held))",
            ),
            Cut(
                f"{MEMORY}.ledger:is_open",
                "return period.posted + period.held < period.limit",
                "return period.limit >= 0",
            ),
        ),
        seed=503,
    ),
    Mutation(
        "refused_credentials_are_asked_again",
        "401 and 403 mean what the connector says they mean; needs_reauth after 3 failed checks.",
        (
            Cut(
                f"{WRITER}.health:Blocks.rename",
                "state = await self.count_failure(turn.account, stop.code)",
                "state = ''",
            ),
        ),
        seed=250,
    ),
    Mutation(
        "a_refused_call_blames_its_contacts",
        "If every half fails alike, it parks all as configuration.",
        (
            Cut(
                f"{WRITER}.calls:_alike",
                "if len(codes) == 1 and not any(",
                "if len(codes) == 0 and not any(",
            ),
        ),
        seed=11,
    ),
    Mutation(
        "a_number_is_nobody",
        "Unique (integration, destination identity = normalised e-mail, else SMS).",
        (
            Cut(
                f"{WRITER}.values:identity_key",
                "return identity.sms or None",
                "return None",
            ),
        ),
        seed=13,
    ),
    Mutation(
        "many_are_deleted_unasked",
        "Over 10 % and over 20 contacts: none is published, the run says needs_confirmation.",
        (
            Cut(
                "services.poller.leavers:is_suspicious",
                "return gone > GUARD_CONTACTS and",
                "return gone > 20 * GUARD_CONTACTS and",
            ),
        ),
        seed=16,
    ),
)
