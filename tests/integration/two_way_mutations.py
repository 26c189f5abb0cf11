"""Takes the rules of two-way integrations out of the code, one at a time.

Each rule has the shortest history that needs it. With the rule the history comes to what the model
of `rounds` says; without it (a mutation, as in `tests/simulation/mutations.py`) something is
written that nobody entered, an edit is lost to an older one, or the two sides never come to the
same.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.fakes import CrashError
from tests.integration.both_ways import Flow
from tests.integration.rounds import Rounds
from tests.simulation.mutations import WRITER, Cut, Mutation

AGREEMENT, PAIRING = f"{WRITER}.agreement", f"{WRITER}.pairing"


@dataclass(frozen=True, slots=True)
class Needed:
    """A rule that is taken out, and the history that needs it; it begins with both sides alike."""

    mutation: Mutation
    history: Callable[[Rounds], Awaitable[None]]


async def _flow(history: Rounds, flow: Flow) -> None:
    """Let a flow read and write; what it wrote must be by the rule."""
    await history.world.poll(flow)
    await _write(history, flow)


async def _write(history: Rounds, flow: Flow, *, dies_at: str | None = None) -> None:
    def reached(step: str) -> None:
        if step == dies_at:
            raise CrashError

    try:
        await history.world.write(flow, reached=reached)
    except CrashError:
        assert dies_at is not None
    else:
        assert dies_at is None, f"nobody came to {dies_at}"
    await history.look()


async def _an_older_edit_is_first(history: Rounds) -> None:
    """Let Brevo's flow be first with the older edit: it gives way."""
    [couple] = history.couples
    await history.enter(couple, "brevo")
    await history.world.pass_time(2)
    await history.enter(couple, "salesforce")
    await _flow(history, history.world.back)


async def _two_edits_in_one_second(history: Rounds) -> None:
    """Let Brevo's flow be first with an edit of the same second: it gives way."""
    [couple] = history.couples
    await history.world.begin_second()
    await history.enter(couple, "salesforce")
    await history.enter(couple, "brevo")
    await _flow(history, history.world.back)


async def _late_write_at_brevo(history: Rounds) -> None:
    """Write what was read after the next edit: there it is newer, and it is no edit."""
    [couple], world = history.couples, history.world
    await history.enter(couple, "salesforce")
    await world.poll(world.there)
    await history.enter(couple, "salesforce")
    await world.pass_time(2)
    await _write(history, world.there)
    await _flow(history, world.back)


async def _late_write_at_salesforce(history: Rounds) -> None:
    """Do the same the other way round."""
    [couple], world = history.couples, history.world
    await history.enter(couple, "brevo")
    await world.poll(world.back)
    await history.enter(couple, "brevo")
    await world.pass_time(2)
    await _write(history, world.back)
    await _flow(history, world.there)


async def _a_writer_dies_after_its_call(history: Rounds) -> None:
    """Let what it wrote be newer than the next edit at Salesforce; nobody says whose it is."""
    [couple], world = history.couples, history.world
    await history.enter(couple, "salesforce")
    await world.poll(world.there)
    await history.enter(couple, "salesforce")
    await world.pass_time(2)
    await _write(history, world.there, dies_at="called")
    await _flow(history, world.back)


async def _a_value_is_rounded(history: Rounds) -> None:
    """Carry a number to Salesforce, which keeps two places: that is no edit."""
    [couple], world = history.couples, history.world
    await history.enter(couple, "brevo", Points__c=history.entered + 0.718)
    await _flow(history, world.back)
    await world.pass_time(2)
    await _flow(history, world.there)


async def _the_same_was_entered_twice(history: Rounds) -> None:
    """Enter at Brevo what was entered at Salesforce: it is newer than the newest there."""
    [couple], world = history.couples, history.world
    name = await history.enter(couple, "salesforce")
    await world.poll(world.there)
    await world.pass_time(2)
    await history.enter(couple, "salesforce")
    await world.pass_time(2)
    await history.enter(couple, "brevo", FirstName=name)
    await _write(history, world.there)
    await world.pass_time(2)
    await _flow(history, world.there)


async def _a_page_from_before_comes_late(history: Rounds) -> None:
    """Read Brevo's older edit before it is overwritten, and write it afterwards."""
    [couple], world = history.couples, history.world
    await history.enter(couple, "brevo")
    await world.poll(world.back)
    await world.pass_time(2)
    await history.enter(couple, "salesforce")
    await _flow(history, world.there)
    await _write(history, world.back)


async def _a_record_is_merged(history: Rounds) -> None:
    """Let the survivor take the contact over."""
    [couple] = history.couples
    await history.merge(couple)


async def _a_record_is_merged_and_its_contact_edited(history: Rounds) -> None:
    """Let it take over what was agreed on as well: Brevo's edit is the newer one."""
    [couple], world = history.couples, history.world
    await history.merge(couple)
    await world.pass_time(2)
    await history.enter(couple, "brevo")
    await _flow(history, world.there)


async def _a_merged_record_is_written_before_that_is_known(history: Rounds) -> None:
    """Read the survivor before Brevo's edit comes there: it is older, however late."""
    [couple], world = history.couples, history.world
    await history.merge(couple)
    await world.poll(world.there)
    await world.pass_time(2)
    await history.enter(couple, "brevo")
    await world.poll(world.back)
    await world.pass_time(2)
    await history.enter(couple, "brevo")
    await world.pass_time(2)
    await _write(history, world.back)
    await _write(history, world.there)
    await _flow(history, world.there)


async def _a_rounded_write_is_not_read_back(history: Rounds) -> None:
    """Die between a call and reading back: Salesforce keeps two places of what it was given."""
    [couple], world = history.couples, history.world
    await history.enter(couple, "brevo", Points__c=history.entered + 0.718)
    await world.poll(world.back)
    await _write(history, world.back, dies_at="called")
    await _flow(history, world.there)


async def _a_record_is_deleted_and_added_anew(history: Rounds) -> None:
    """Let the dead link's address go: the contact is found again by it."""
    [couple] = history.couples
    await history.replace(couple)


def _needed(
    name: str, sentence: str, history: Callable[[Rounds], Awaitable[None]], *cuts: Cut
) -> Needed:
    return Needed(Mutation(name, sentence, cuts, seed=0), history)


NEEDED = (
    _needed(
        "the_older_gives_way",
        "Of two edits the newer stands, by each provider's clock.",
        _an_older_edit_is_first,
        Cut(
            f"{AGREEMENT}:decide",
            "return Verdict.WRITE if is_newer(here, at_ms, there_ms) else Verdict.YIELD",
            "return Verdict.WRITE",
        ),
    ),
    _needed(
        "a_tie_is_salesforces",
        "On a tie Salesforce's stands.",
        _two_edits_in_one_second,
        Cut(
            f"{AGREEMENT}:is_newer",
            "at_s >= there_s if here is Side.SOURCE else at_s > there_s",
            "at_s > there_s if here is Side.SOURCE else at_s >= there_s",
        ),
    ),
    _needed(
        "what_was_written_at_brevo_is_no_edit",
        "The way back drops what the way there wrote.",
        _late_write_at_brevo,
        Cut(
            f"{AGREEMENT}:Seen.holds",
            "return content in (self.of(side), pending)",
            "return side is Side.SOURCE and content in (self.of(side), pending)",
        ),
    ),
    _needed(
        "what_was_written_at_salesforce_is_no_edit",
        "The way there drops what the way back wrote.",
        _late_write_at_salesforce,
        Cut(
            f"{AGREEMENT}:Seen.holds",
            "return content in (self.of(side), pending)",
            "return side is Side.REMOTE and content in (self.of(side), pending)",
        ),
    ),
    _needed(
        "what_may_be_under_way_is_no_edit",
        "What may be written is stored with its unit, before the call.",
        _a_writer_dies_after_its_call,
        Cut(f"{PAIRING}:Pairing.begin", "if begun:", "if False:"),
    ),
    _needed(
        "who_begins_a_pair_is_not_reserved_at_once",
        "What may be written is stored in the transaction that holds its unit.",
        _a_writer_dies_after_its_call,
        Cut(f"{PAIRING}:Pairing.has_to_begin", "bool(_to_begin(turn, tasks))", "False"),
    ),
    _needed(
        "what_is_read_back_is_accounted_for",
        "What is stored of the side that was written is what is read back after the write.",
        _a_value_is_rounded,
        Cut(
            f"{PAIRING}:_agree",
            "agreed(each.here, each.content, content_of(values))",
            "agreed(each.here, each.content, each.content)",
        ),
    ),
    _needed(
        "what_was_rounded_on_its_way_is_no_edit",
        "A side that holds the other's edit with fewer decimal places holds the same.",
        _a_rounded_write_is_not_read_back,
        Cut(f"{PAIRING}:_verdict", "if is_kept_form(each.values, there) and", "if False and"),
    ),
    _needed(
        "the_same_accounts_for_ones_own_side_only",
        "Finding the same accounts for one's own side only.",
        _the_same_was_entered_twice,
        Cut(
            f"{AGREEMENT}:found_same",
            "content if seen.holds(here.other, content) else seen.of(here.other)",
            "content",
        ),
    ),
    _needed(
        "pages_from_before_a_write_are_older",
        "After a write the other flow's link takes over the time that was seen there.",
        _a_page_from_before_comes_late,
        Cut(
            f"{PAIRING}:Pairs.fence",
            "if partner is not None and each.record is not None:",
            "if False:",
        ),
    ),
    _needed(
        "a_merge_moves_the_link",
        "A merge at the source moves the link to the surviving record.",
        _a_record_is_merged,
        Cut(f"{WRITER}.classify:take_over", "if not item.merged_from:", "if True:"),
    ),
    _needed(
        "a_merge_moves_what_was_agreed_on",
        "And with it what both sides have agreed on.",
        _a_record_is_merged_and_its_contact_edited,
        Cut(f"{PAIRING}:Pairs.pair_of", "heir is not None and inherited", "False and inherited"),
    ),
    _needed(
        "a_merge_moves_until_when_pages_are_older",
        "And until when the other flow has written there.",
        _a_merged_record_is_written_before_that_is_known,
        Cut(f"{WRITER}.classify:_inherit", "integration.is_two_way", "False"),
    ),
    _needed(
        "a_dead_link_is_dropped",
        "A link whose record is gone lets its address go, and is found again.",
        _a_record_is_deleted_and_added_anew,
        Cut(
            f"{WRITER}.classify:_leave",
            "link = replace(link, state=LinkState.REMOVED)",
            "link = replace(link, state=LinkState.LINKED)",
        ),
    ),
)
