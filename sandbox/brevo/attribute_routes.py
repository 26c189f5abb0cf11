"""/contacts/attributes: the fields of an account's contacts."""

import msgspec

from sandbox.brevo import errors, reading
from sandbox.brevo.account import BrevoAccount
from sandbox.brevo.attributes import Definition
from sandbox.exchange import Answer, Request, Routes

ATTRIBUTE = "/v3/contacts/attributes/{category}/{name}"


class Option(msgspec.Struct):
    value: int | str
    label: str


class DefinitionBody(msgspec.Struct, rename="camel"):
    type: str | None = None
    enumeration: list[Option] | None = None
    multi_category_options: list[str] | None = None
    value: str | None = None
    is_recurring: bool | None = None

    def definition(self) -> Definition:
        return Definition(
            type=self.type,
            enumeration=[(str(option.value), option.label) for option in self.enumeration or ()],
            choices=self.multi_category_options,
            formula=self.value,
        )


def register(routes: Routes[BrevoAccount]) -> None:
    routes.add("GET", "/v3/contacts/attributes")(_list)
    routes.add("POST", ATTRIBUTE)(_create)
    routes.add("PUT", ATTRIBUTE)(_update)
    routes.add("DELETE", ATTRIBUTE)(_delete)
    routes.add("DELETE", "/v3/contacts/attributes/multiple-choice/{name}/{option}")(_delete_option)


def _list(account: BrevoAccount, request: Request) -> Answer:
    return Answer(200, {"attributes": account.attributes.as_json()})


def _create(account: BrevoAccount, request: Request) -> Answer:
    wanted = reading.body(request, DefinitionBody).definition()
    arguments = request.arguments
    account.attributes.create(arguments["category"], arguments["name"], wanted)
    return Answer(201)  # Documented with an empty body.


def _update(account: BrevoAccount, request: Request) -> Answer:
    wanted = reading.body(request, DefinitionBody)
    if wanted.type is not None:
        errors.invalid("The type of an attribute cannot be changed")
    arguments = request.arguments
    attribute = account.attributes.find(arguments["category"], arguments["name"])
    wanted.definition().change(attribute)
    return Answer(204)


def _delete(account: BrevoAccount, request: Request) -> Answer:
    arguments = request.arguments
    gone = account.attributes.remove(arguments["category"], arguments["name"])
    account.contacts.forget_attribute(gone.name)
    return Answer(204)


def _delete_option(account: BrevoAccount, request: Request) -> Answer:
    attribute = account.attributes.find("normal", request.arguments["name"])
    if request.arguments["option"] not in attribute.choices:
        errors.unknown("Option not found")
    attribute.choices.remove(request.arguments["option"])
    return Answer(204)
