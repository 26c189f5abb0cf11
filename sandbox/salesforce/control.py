"""Salesforce's own part of the control interface: contacts and leads, campaigns, cases, fields.

What is put in here is not checked as the API checks it: a test may make contacts that no API would
take. `properties` are those of the object, by their names in the API. Who changes records here is
a colleague of the app's user; with the setting `commit_lag_s` the changes become visible that much
later than they happened.
"""

from collections.abc import Sequence
from typing import Any

from sandbox import wishes
from sandbox.control import parsed
from sandbox.exchange import Answer, Request, Routes
from sandbox.people import Person
from sandbox.provider import ControlError
from sandbox.salesforce import derived, jwt
from sandbox.salesforce.fields import NUMBERS, TEXTS, TYPES, Field
from sandbox.salesforce.ids import as_18
from sandbox.salesforce.oauth_api import issued
from sandbox.salesforce.org import Org
from sandbox.salesforce.records import Row, Table
from sandbox.salesforce.state import State
from sandbox.salesforce.tokens import ALL_SCOPES
from sandbox.wishes import Filled, WishedContact, chosen, crowd, marked

PEOPLE = ("Contact", "Lead")
EDITED = ("FirstName", "LastName", "Title")


class Wish(wishes.Wish, kw_only=True, frozen=True):
    """The body of a control call; what each has more is in the structs below."""

    object: str = "Contact"


class Fill(wishes.Fill, kw_only=True, frozen=True):
    object: str = "Contact"


class Selection(wishes.Selection, kw_only=True, frozen=True):
    object: str = "Contact"


class Change(Selection, frozen=True):
    properties: Sequence[str] = EDITED
    kind: str = "fields"  # Or "email"; or "touch": as a process of the system, nothing else.


class Merge(Wish, frozen=True):
    primary: str
    other: str


class Upsert(wishes.Upsert, kw_only=True, frozen=True):
    object: str = "Contact"


class Members(Wish, frozen=True):
    ids: Sequence[str]


class Lock(Members, frozen=True):
    times: int = 1


class Attach(Wish, frozen=True):
    contact: str
    subject: str = "It does not work"


class Convert(Wish, frozen=True):
    ids: Sequence[str]
    contact: str | None = None  # None: each lead becomes a contact of its own.


class NewCampaign(Wish, frozen=True):
    name: str


class NewField(Wish, frozen=True):
    name: str
    type: str = "string"
    label: str | None = None
    length: int = 255
    options: Sequence[str] = ()
    formula: str | None = None
    required: bool = False
    unique: bool = False
    external_id: bool = False


class NamedField(Wish, frozen=True):
    name: str


class Validation(Wish, frozen=True):
    """A rule: a write that leaves this value in this field is refused with this text."""

    field: str
    value: str
    message: str


class NewTokens(Wish, frozen=True):
    scopes: Sequence[str] = ALL_SCOPES


class Certificate(Wish, frozen=True):
    pem: str


class Use(Wish, frozen=True):
    calls: int


def register(routes: Routes[Org], state: State) -> None:
    """Add Salesforce's control calls."""
    for method, path, handler in (
        ("POST", "contacts:fill", _fill),
        ("POST", "contacts:change", _change),
        ("POST", "contacts:delete", _delete),
        ("POST", "contacts:undelete", _undelete),
        ("POST", "contacts:erase", _erase),
        ("POST", "contacts:upsert", _upsert),
        ("POST", "contacts:merge", _merge),
        ("POST", "contacts:hide", _hide),
        ("POST", "contacts:show", _show),
        ("POST", "contacts:lock", _lock),
        ("POST", "leads:convert", _convert),
        ("POST", "cases:attach", _attach),
        ("POST", "lists", _create_campaign),
        ("POST", "lists/{list}:join", _join),
        ("POST", "lists/{list}:leave", _leave),
        ("POST", "lists/{list}:delete", _delete_campaign),
        ("POST", "lists/{list}:restore", _restore_campaign),
        ("POST", "fields", _create_field),
        ("POST", "fields:delete", _delete_field),
        ("POST", "fields:hide", _hide_field),
        ("POST", "fields:show", _show_field),
        ("POST", "validations", _validate),
        ("POST", "api:use", _use),
        ("GET", "state", _state),
    ):
        routes.add(method, f"/_sandbox/{path}")(_settled(handler))
    _register_tokens(routes, state)


def _settled(handler: Any) -> Any:
    """Return a handler before which what is due has happened."""

    def after(account: Org, request: Request) -> Answer:
        account.settle()
        answer: Answer = handler(account, request)
        return answer

    return after


def _register_tokens(routes: Routes[Org], state: State) -> None:
    @routes.add("POST", "/_sandbox/tokens")
    def tokens(account: Org, request: Request) -> Answer:
        """Grant the app access, as if a person had been through the page."""
        scopes, now_s = tuple(parsed(request, NewTokens).scopes), state.clock.now_s()
        grant = state.tokens.approve(account.id, scopes, now_s)
        session = state.tokens.open(account.id, scopes, now_s, grant=grant.id)
        return Answer(200, issued(state, request, session, grant.refresh))

    @routes.add("POST", "/_sandbox/app:uninstall")
    def uninstall(account: Org, request: Request) -> Answer:
        """Take access back from the app, as an administrator would."""
        state.tokens.revoke(account.id)
        return Answer(204)

    @routes.add("POST", "/_sandbox/sessions:end")
    def end_sessions(account: Org, request: Request) -> Answer:
        """End all sessions; refresh tokens stay good."""
        state.tokens.expire(account.id)
        return Answer(204)

    @routes.add("POST", "/_sandbox/app:certificate")
    def certificate(account: Org, request: Request) -> Answer:
        """Upload a key whose signature the JWT bearer flow takes."""
        pem = parsed(request, Certificate).pem
        try:
            jwt.public_key(pem)
        except ValueError as error:
            raise ControlError(str(error)) from error
        state.tokens.certificates.append(pem)
        return Answer(204)


def _fill(account: Org, request: Request) -> Answer:
    wish = parsed(request, Fill)
    table = _table(account, wish.object, PEOPLE)
    known = {row.get("Email") for row in table.rows.values() if row.get("Email")}
    found = crowd(wish, account.seed, lambda email: email.lower() in known)
    campaign = _campaign_made(account, wish.list)
    filled = Filled()
    for person in found:
        row = account.create(table.name, _values(table, person), account.by_people)
        filled.add(row["Id"], person)
        if person.invalid:
            account.invalid_ids.add(row["Id"])
    if campaign:
        _add_members(account, campaign, table, filled.ids)
    return Answer(200, filled.told(campaign["Id"] if campaign else None))


def _values(table: Table, person: Person) -> dict[str, Any]:
    values: dict[str, Any] = {"FirstName": person.first_name, "LastName": person.last_name}
    if person.email:
        values["Email"] = person.email.lower()  # As Salesforce keeps every address.
    if person.phone:
        values["MobilePhone" if table.name == "Contact" else "Phone"] = person.phone
    if table.name == "Lead":
        place = {"City": person.city, "Country": person.country}
        return {**values, **place, "Company": person.company or "[not provided]"}
    if person.company:
        values["Department"] = person.company
    place = {"MailingCity": person.city, "MailingCountry": person.country}
    return {**values, **place, "Birthdate": person.birthday}


def _change(account: Org, request: Request) -> Answer:
    wish = parsed(request, Change)
    table = _table(account, wish.object, PEOPLE)
    texts = {"string", "textarea", "phone"}
    fields = [table.fields.get(name.lower()) for name in wish.properties]
    wrong = [
        name
        for name, field in zip(wish.properties, fields, strict=True)
        if field is None or field.type not in texts or field.calculated
    ]
    if wish.kind not in {"fields", "email", "touch"} or wrong:
        message = (
            f'kind must be "fields", "email" or "touch"; fields that cannot be changed: {wrong}'
        )
        raise ControlError(message)
    ids = _chosen(account, table, wish)
    account.edits += 1
    for row in [table.rows[each] for each in ids]:
        if wish.kind == "touch":
            account.touch(table.name, row, account.by_people)
        else:
            names = [each.name for each in fields if each is not None]
            changes = _edits(account, row, names, kind=wish.kind)
            account.update(table.name, row, changes, account.by_people)
    return Answer(200, {"ids": ids})


def _edits(account: Org, row: Row, names: Sequence[str], *, kind: str) -> dict[str, str]:
    """Return changes that no other edit has made."""
    number = account.edits
    if kind == "email":
        return {"Email": f"moved{number}.{row['Id'].lower()}@example.org"}
    return {name: marked(row.get(name), number) for name in names}


def _delete(account: Org, request: Request) -> Answer:
    wish = parsed(request, Selection)
    table = _table(account, wish.object)
    ids = _chosen(account, table, wish)
    for row in [table.rows[each] for each in ids]:
        account.delete(table.name, row, account.by_people)
    return Answer(200, {"ids": ids})


def _undelete(account: Org, request: Request) -> Answer:
    wish = parsed(request, Selection)
    table = _table(account, wish.object)
    ids = [_binned(table, each) for each in wish.ids or ()]
    for each in ids:
        account.undelete(table.name, table.rows[each], account.by_people)
    return Answer(200, {"ids": ids})


def _erase(account: Org, request: Request) -> Answer:
    """Delete records for good, as emptying the bin does: of these ids, or of all in the bin."""
    wish = parsed(request, Selection)
    table = _table(account, wish.object)
    ids = (
        sorted(table.bin) if wish.ids is None else [_known(table, each)["Id"] for each in wish.ids]
    )
    for each in ids:
        account.erase(table.name, each)
    return Answer(200, {"ids": ids})


def _binned(table: Table, record_id: str) -> str:
    row = _known(table, record_id)
    if not row.get("IsDeleted"):
        message = f"{record_id} is not in the bin"
        raise ControlError(message)
    return str(row["Id"])


def _upsert(account: Org, request: Request) -> Answer:
    wish = parsed(request, Upsert)
    table = _table(account, wish.object)
    campaign = _campaign_made(account, wish.list)
    ids = [_upserted(account, table, each)["Id"] for each in wish.contacts]
    if campaign:
        _add_members(account, campaign, table, ids)
    return Answer(200, {"ids": ids, "list_id": campaign["Id"] if campaign else None})


def _upserted(account: Org, table: Table, wish: WishedContact) -> Row:
    """Change the record with this id or else this address; make it if it is not there."""
    fields = {name: table.fields.get(name.lower()) for name in wish.properties}
    unknown = sorted(name for name, field in fields.items() if field is None)
    if unknown:
        message = f"a {table.name} has no fields {', '.join(unknown)}"
        raise ControlError(message)
    values = {field.name: wish.properties[name] for name, field in fields.items() if field}
    email = values.get("Email")
    found = table.rows.get(as_18(wish.id) or "") if wish.id else None
    if found is None and email and wish.id is None:
        same = (row for row in table.having("Email", email) if not row.get("IsDeleted"))
        found = next(same, None)
    if found is not None:
        return account.update(table.name, found, values, account.by_people)
    if wish.id:
        message = f"there is no {table.name} {wish.id}; the ids of new ones are Salesforce's"
        raise ControlError(message)
    return account.create(table.name, values, account.by_people)


def _merge(account: Org, request: Request) -> Answer:
    wish = parsed(request, Merge)
    table = _table(account, wish.object, (*PEOPLE, "Account"))
    primary, other = (_live(table, each) for each in (wish.primary, wish.other))
    account.merge(table.name, primary, [other], account.by_people)
    return Answer(200, {"id": primary["Id"]})


def _hide(account: Org, request: Request) -> Answer:
    """Stop sharing records with the app's user: they are absent, without a word."""
    wish = parsed(request, Members)
    table = _table(account, wish.object)
    account.unshared |= {_known(table, each)["Id"] for each in wish.ids}
    return Answer(204)


def _show(account: Org, request: Request) -> Answer:
    account.unshared -= {as_18(each) or each for each in parsed(request, Members).ids}
    return Answer(204)


def _lock(account: Org, request: Request) -> Answer:
    """Let the next writes of records find them locked, each so many times."""
    wish = parsed(request, Lock)
    table = _table(account, wish.object)
    table.locks |= {_live(table, each)["Id"]: wish.times for each in wish.ids}
    return Answer(204)


def _convert(account: Org, request: Request) -> Answer:
    wish = parsed(request, Convert)
    contact = _live(account.table("Contact"), wish.contact) if wish.contact else None
    leads = [_live(account.table("Lead"), each) for each in wish.ids]
    if any(each.get("IsConverted") for each in leads):
        message = "a lead is converted once"
        raise ControlError(message)
    contacts = [account.convert(each, contact, account.by_people)["Id"] for each in leads]
    return Answer(200, {"ids": [each["Id"] for each in leads], "contact_ids": contacts})


def _attach(account: Org, request: Request) -> Answer:
    """Open a case of a contact, who then cannot be deleted."""
    wish = parsed(request, Attach)
    contact = _live(account.table("Contact"), wish.contact)
    values = {"ContactId": contact["Id"], "Subject": wish.subject, "Origin": "Phone"}
    case = account.create("Case", values, account.by_people)
    return Answer(201, {"id": case["Id"], "case_number": case["CaseNumber"]})


def _create_campaign(account: Org, request: Request) -> Answer:
    name = parsed(request, NewCampaign).name
    if _campaign_named(account, name):
        message = f"there is a campaign {name} already"
        raise ControlError(message)
    return Answer(201, {"list_id": _made_campaign(account, name)["Id"]})


def _join(account: Org, request: Request) -> Answer:
    wish, campaign = parsed(request, Members), _named_campaign(account, request)
    table = _table(account, wish.object, PEOPLE)
    ids = [_live(table, each)["Id"] for each in wish.ids]
    return Answer(200, {"ids": _add_members(account, campaign, table, ids)})


def _leave(account: Org, request: Request) -> Answer:
    wish, campaign = parsed(request, Members), _named_campaign(account, request)
    leaving = {as_18(each) for each in wish.ids}
    left = [
        member
        for member in account.members("CampaignId", campaign["Id"])
        if member.get("LeadId") in leaving or member.get("ContactId") in leaving
    ]
    for member in left:
        account.delete("CampaignMember", member, account.by_people)
    return Answer(200, {"ids": [each.get("LeadId") or each.get("ContactId") for each in left]})


def _delete_campaign(account: Org, request: Request) -> Answer:
    account.delete("Campaign", _named_campaign(account, request), account.by_people)
    return Answer(204)


def _restore_campaign(account: Org, request: Request) -> Answer:
    account.undelete("Campaign", _named_campaign(account, request), account.by_people)
    return Answer(204)


def _create_field(account: Org, request: Request) -> Answer:
    wish = parsed(request, NewField)
    table = _table(account, wish.object)
    is_formula = wish.formula is not None
    if wish.type not in TYPES - {"id", "reference", "address"} or not wish.name.endswith("__c"):
        message = f"a custom field ends in __c and is of a type of: {', '.join(sorted(TYPES))}"
        raise ControlError(message)
    if wish.formula is not None and derived.formula_names(wish.formula) is None:
        message = "a formula joins fields and quoted texts by &"
        raise ControlError(message)
    field = Field(
        name=wish.name,
        label=wish.label or wish.name.removesuffix("__c").replace("_", " "),
        type=wish.type,
        length=wish.length if wish.type in TEXTS else 0,
        precision=18 if wish.type in NUMBERS else 0,
        scale=2 if wish.type in NUMBERS - {"int"} else 0,
        nillable=not wish.required and wish.type != "boolean",
        defaulted=wish.type == "boolean",
        createable=not is_formula,
        updateable=not is_formula,
        calculated=is_formula,
        formula=wish.formula,
        custom=True,
        unique=wish.unique or wish.external_id,
        external_id=wish.external_id,
        restricted=bool(wish.options),
        options=tuple(wish.options),
    )
    table.define(field)
    table.schema_changed_s = account.clock.now_s()
    return Answer(201, {"name": field.name})


def _delete_field(account: Org, request: Request) -> Answer:
    table, field = _named_field(account, request)
    table.undefine(field)
    table.schema_changed_s = account.clock.now_s()
    return Answer(204)


def _hide_field(account: Org, request: Request) -> Answer:
    """Take the app's user the right to see a field: for them there is none of that name."""
    table, field = _named_field(account, request)
    account.hidden_fields.add((table.name, field.name))
    table.schema_changed_s = account.clock.now_s()
    return Answer(204)


def _show_field(account: Org, request: Request) -> Answer:
    table, field = _named_field(account, request)
    account.hidden_fields.discard((table.name, field.name))
    table.schema_changed_s = account.clock.now_s()
    return Answer(204)


def _validate(account: Org, request: Request) -> Answer:
    """Add a validation rule, whose text is what a refused write says."""
    wish = parsed(request, Validation)
    table = _table(account, wish.object)
    field = table.fields.get(wish.field.lower())
    if field is None:
        message = f"a {table.name} has no field {wish.field}"
        raise ControlError(message)
    account.validations.append((table.name, field.name, wish.value, wish.message))
    return Answer(204)


def _use(account: Org, request: Request) -> Answer:
    """Use up calls of the day's allocation, as other apps of the org do."""
    wish = parsed(request, Use)
    taken = 0
    while taken < wish.calls and account.limits.take("daily") is None:
        taken += 1
    return Answer(200, {"calls": taken})


def _state(account: Org, request: Request) -> Answer:
    campaigns = account.table("Campaign").rows.values()
    return Answer(
        200,
        {
            "account": account.id,
            "edition": account.edition,
            "contacts": [dict(each) for each in account.table("Contact").rows.values()],
            "leads": [dict(each) for each in account.table("Lead").rows.values()],
            "lists": [_shown_campaign(account, each) for each in campaigns],
            "cases": [dict(each) for each in account.table("Case").rows.values()],
            "fields": {
                name: [each.described() for each in account.table(name).fields.values()]
                for name in PEOPLE
            },
            "invalid_ids": sorted(account.invalid_ids),
        },
    )


def _shown_campaign(account: Org, campaign: Row) -> dict[str, Any]:
    members = account.members("CampaignId", campaign["Id"])
    return {
        **campaign,
        "name": campaign["Name"],
        "members": [each.get("LeadId") or each.get("ContactId") for each in members],
    }


def _chosen(account: Org, table: Table, wish: Selection) -> list[str]:
    """Return the ids that a selection means, in the order they were made."""
    valid = [
        each
        for each in table.rows.values()
        if not each.get("IsDeleted") and each["Id"] not in account.invalid_ids
    ]
    return [each["Id"] for each in chosen(wish, valid, lambda each: _live(table, each))]


def _table(account: Org, name: str, among: Sequence[str] = ()) -> Table:
    table = account.tables.get(name.lower())
    if table is None or (among and table.name not in among):
        names = among or [each.name for each in account.tables.values()]
        message = f"object must be one of: {', '.join(names)}"
        raise ControlError(message)
    return table


def _known(table: Table, record_id: str) -> Row:
    row = table.rows.get(as_18(record_id) or "")
    if row is None:
        message = f"there is no {table.name} {record_id}"
        raise ControlError(message)
    return row


def _live(table: Table, record_id: str) -> Row:
    row = _known(table, record_id)
    if row.get("IsDeleted"):
        message = f"the {table.name} {record_id} is deleted"
        raise ControlError(message)
    return row


def _named_field(account: Org, request: Request) -> tuple[Table, Field]:
    wish = parsed(request, NamedField)
    table = _table(account, wish.object)
    field = table.fields.get(wish.name.lower())
    if field is None:
        message = f"a {table.name} has no field {wish.name}"
        raise ControlError(message)
    return table, field


def _campaign_named(account: Org, name: str) -> Row | None:
    """Return the campaign with this id or this name, a deleted one too."""
    rows = account.table("Campaign").rows
    found = rows.get(as_18(name) or "")
    return found or next((each for each in rows.values() if each["Name"] == name), None)


def _named_campaign(account: Org, request: Request) -> Row:
    name = request.arguments["list"]
    campaign = _campaign_named(account, name)
    if campaign is None:
        message = f"there is no campaign {name}"
        raise ControlError(message)
    return campaign


def _campaign_made(account: Org, name: str | None) -> Row | None:
    if name is None:
        return None
    return _campaign_named(account, name) or _made_campaign(account, name)


def _made_campaign(account: Org, name: str) -> Row:
    values = {"Name": name, "IsActive": True, "Type": "Email", "Status": "In Progress"}
    # At once, whatever the lag: what hangs on a campaign needs it.
    return account.create("Campaign", values, account.by_api)


def _add_members(account: Org, campaign: Row, table: Table, ids: Sequence[str]) -> list[str]:
    """Put people into a campaign; return who was not in it."""
    reference = f"{table.name}Id"
    there = {each.get(reference) for each in account.members("CampaignId", campaign["Id"])}
    joining = [each for each in dict.fromkeys(ids) if each not in there]
    for each in joining:
        values = {"CampaignId": campaign["Id"], reference: each}
        account.create("CampaignMember", values, account.by_people)
    return joining
