"""Files through the API: uploaded, looked at, confirmed, and what was wrong in their rows."""

import csv
import io
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text
from starlette.requests import ClientDisconnect

from libs.common import ids
from libs.common.csvfile.rows import rows_of
from libs.common.database import SessionMaker, transactions_of
from libs.common.ids import Prefix
from libs.common.uploads import UploadedFiles
from services.config_api import intake
from services.config_api.routing import UploadBounds
from tests.services.config_api.served import (
    Served,
    codes,
    config_api,
    connect_brevo,
    edit,
)

Json = dict[str, Any]
CSV = {"content-type": "text/csv"}
PEOPLE = (
    "E-Mail;Vorname;Handy;Kundennummer\n"
    "ada@example.org;Ada;+44 7911 123456;1\n"
    "bob@example.org;Bob;;2\n"
)


@pytest.fixture
async def connection(api: httpx.AsyncClient) -> str:
    made = await api.post("/v1/connections", json={"provider": "csv", "name": "Members"})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def send(
    api: httpx.AsyncClient,
    connection: str,
    content: bytes | str | AsyncIterator[bytes],
    headers: dict[str, str] = CSV,
    **parameters: Any,
) -> httpx.Response:
    body = content.encode() if isinstance(content, str) else content
    address = {"connection_id": connection, **parameters}
    return await api.post("/v1/imports", params=address, content=body, headers=headers)


async def upload(
    api: httpx.AsyncClient, connection: str, content: bytes | str, **parameters: Any
) -> Json:
    answer = await send(api, connection, content, **parameters)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_a_connection_for_files_needs_no_login(api: httpx.AsyncClient) -> None:
    """Proves AC8, W1 and W2: a provider of the catalogue, without OAuth and without a key."""
    catalogue = {each["id"]: each for each in (await api.get("/v1/providers")).json()["items"]}
    wanted = {"provider": "csv", "name": "Members"}

    made = await api.post("/v1/connections", json=wanted)
    keyed = await api.post("/v1/connections", json={**wanted, "api_key": "k"})
    login = await api.post(f"/v1/connections/{made.json()['id']}:authorize")

    assert catalogue["csv"]["authentication"] == "none"
    assert (made.status_code, made.json()["state"]) == (201, "connected")
    assert codes(keyed) == ["login_expected"]
    assert codes(login) == ["no_login"]


async def test_a_file_is_shown_as_it_is_read(api: httpx.AsyncClient, connection: str) -> None:
    """Proves AC8: delimiter, encoding and header are found, and shown for confirmation."""
    answer = await send(api, connection, PEOPLE.encode("cp1252"), name="Mitglieder.csv")
    shown = answer.json()

    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/imports/{shown['id']}"
    assert (shown["name"], shown["state"], shown["bytes"]) == (
        "Mitglieder.csv",
        "ready",
        len(PEOPLE),
    )
    assert (shown["delimiter"], shown["encoding"], shown["has_header"]) == (";", "utf-8", True)
    assert [(each["name"], each["meaning"]) for each in shown["columns"]] == [
        ("E-Mail", "email"),
        ("Vorname", "first_name"),
        ("Handy", "phone"),
        ("Kundennummer", "id"),
    ]
    assert shown["columns"][1]["samples"] == ["Ada", "Bob"]
    assert shown["key_columns"] == ["E-Mail", "Handy"]
    assert (shown["rows"], shown["rows_ragged"], shown["rows_duplicate"]) == (2, 0, 0)
    assert (await api.get(answer.headers["location"])).json() == shown
    listed = (await api.get("/v1/imports", params={"connection_id": connection})).json()["items"]
    assert [each["id"] for each in listed] == [shown["id"]]


REFUSED = [
    (b"", "file_empty"),
    (b"\xef\xbb\xbf\r\n\r\n", "file_empty"),
    (b"Email;Name\n", "file_has_no_rows"),
    (b"PK\x03\x04rest of a workbook", "file_is_not_csv"),
    (b"%PDF-1.7 rest", "file_is_not_csv"),
    (b"  <!DOCTYPE html><html></html>", "file_is_not_csv"),
    (b"Dear all,\nplease find the list\nas attached.\n", "file_is_not_csv"),
    (b"\x01\x02\x00\x04\x05\x00\x00\x07" * 9, "file_is_not_csv"),
    (b"Email;Name\na@example.org;\x81\n", "wrong_encoding"),
    (b"Email;;Name\na@example.org;1;A\n", "header_blank"),
    (b"Email;Name;Email\na@example.org;A;b@example.org\n", "header_duplicate"),
    (b"Email\na@example.org;A;B\nb@example.org;B;C\n", "header_ragged"),
    (b'Email;Name\na@example.org;"A\nb@example.org;B\n', "quote_not_closed"),
    (b'Email;Name\na@example.org;"' + b"x\n" * 140_000, "row_too_long"),
    (b"Email;Name\na@example.org;" + b"x" * 300_000, "row_too_long"),
    (b";".join(b"c%d" % each for each in range(501)) + b"\n1\n", "too_many_columns"),
]


async def test_a_file_that_cannot_be_read_is_refused_and_nothing_is_kept(
    api: httpx.AsyncClient, served: Served, connection: str
) -> None:
    """Proves AC8 and X1: what is wrong is said, and nothing is half-done."""
    for content, code in REFUSED:
        answer = await send(api, connection, content)

        body = answer.json()
        assert (answer.status_code, body["code"], codes(answer)) == (422, "file_refused", [code])
        assert answer.headers["content-type"] == "application/problem+json"
        assert body["errors"][0]["detail"]
        assert "example.org" not in answer.text
    assert await kept(served) == (0, 0)


async def kept(served: Served) -> tuple[int, int]:
    """Return how many files and chunks are stored."""
    async with served.owner.begin() as session:
        files = await session.scalar(text("select count(*) from config.imports"))
        chunks = await session.scalar(text("select count(*) from config.import_chunks"))
    return int(files or 0), int(chunks or 0)


async def test_what_is_no_file_at_all_is_refused_before_it_is_read(
    api: httpx.AsyncClient, connection: str
) -> None:
    """Proves X1: 415 for JSON and packed bodies, 422 for a connection that takes no files."""
    hubspot = (await api.post("/v1/connections", json={"provider": "hubspot", "name": "n"})).json()

    json_sent = await send(api, connection, "{}", {"content-type": "application/json"})
    packed = await send(api, connection, PEOPLE, {**CSV, "content-encoding": "gzip"})
    elsewhere = await send(api, hubspot["id"], PEOPLE)
    nowhere = await send(api, "con_" + "0" * 32, PEOPLE)
    unknown = await send(api, connection, PEOPLE, encodng="utf-8")

    assert [each.status_code for each in (json_sent, packed)] == [415, 415]
    assert json_sent.json()["code"] == "csv_expected"
    assert codes(elsewhere) == ["no_files"]
    assert nowhere.status_code == 404
    assert codes(unknown) == ["unknown_parameter"]


async def test_a_file_has_bounds(role_url: Callable[[str], str], sessions: SessionMaker) -> None:
    """Proves X1: too many rows 422, with the row; too many files 409."""
    bounds = UploadBounds(rows_max=2, kept_bytes_max=len(PEOPLE))
    async with config_api(role_url("api"), sessions, uploads=bounds) as served:
        workspace = await served.make_workspace()
        async with served.caller(workspace["api_key"]["secret"]) as api:
            wanted = {"provider": "csv", "name": "Members"}
            connection = (await api.post("/v1/connections", json=wanted)).json()["id"]
            rows = await send(api, connection, PEOPLE + "c@example.org;C;;3\n")
            first = await upload(api, connection, PEOPLE)
            space = await send(api, connection, PEOPLE)
            await api.delete(f"/v1/imports/{first['id']}")
            again = await send(api, connection, PEOPLE)

    assert (codes(rows), rows.json()["row"]) == (["too_many_rows"], 4)
    assert (space.status_code, space.json()["code"]) == (409, "upload_space_used")
    assert again.status_code == 201


async def test_a_body_beyond_the_bound_is_413_and_nothing_is_kept(
    api: httpx.AsyncClient, served: Served, connection: str
) -> None:
    """Proves X1 and AC8, whether the length is told before or not."""
    line = b"someone@example.org;x\n"
    most = UploadBounds().bytes_max

    async def stream() -> AsyncIterator[bytes]:
        yield b"Email;Name\n"
        for _ in range(3):
            yield line * 10
        yield b"x" * most

    told = await send(api, connection, PEOPLE, {**CSV, "content-length": str(most + 1)})
    untold = await send(api, connection, stream())

    assert (told.status_code, told.json()["code"]) == (413, "body_too_large")
    assert untold.status_code == 413
    assert await kept(served) == (0, 0)


ENCODED = [
    ("utf-8", b"", "utf-8"),
    ("utf-8", b"\xef\xbb\xbf", "utf-8"),
    ("utf-16-le", b"\xff\xfe", "utf-16le"),
    ("utf-16-be", b"\xfe\xff", "utf-16be"),
    ("utf-16-le", b"", "utf-16le"),
    ("cp1252", b"", "windows-1252"),
]


async def test_encodings_and_delimiters_are_found(api: httpx.AsyncClient, connection: str) -> None:
    """Proves AC8: UTF-8 with and without its mark, UTF-16, Windows-1252."""
    rows = [["E-Mail", "Straße"], ["käthe@example.org", "Müllerweg 1"], ["b@example.org", "Ö"]]
    for (encoding, mark, found), delimiter in itertools.product(ENCODED, [",", ";", "\t", "|"]):
        content = "".join(delimiter.join(row) + "\r\n" for row in rows)

        shown = await upload(api, connection, mark + content.encode(encoding))

        assert (shown["encoding"], shown["delimiter"]) == (found, delimiter)
        assert [each["name"] for each in shown["columns"]] == ["E-Mail", "Straße"]
        assert shown["columns"][1]["samples"] == ["Müllerweg 1", "Ö"]


async def test_an_umlaut_far_behind_does_not_spoil_the_guess(
    api: httpx.AsyncClient, connection: str
) -> None:
    """Proves AC8: 64 KB of plain ASCII tell nothing of the encoding; what comes later does."""
    plain = b"Email;Name\n" + b"".join(b"p%d@example.org;Ada\n" % each for each in range(9000))

    late = await upload(api, connection, plain + "j@example.org;Jörg\n".encode("cp1252"))
    mixed = await send(
        api, connection, "Email;Näme\n".encode() + plain[11:] + b"j@example.org;J\xf6rg\n"
    )

    assert late["encoding"] == "windows-1252"
    assert codes(mixed) == ["wrong_encoding"]


async def test_a_person_may_say_otherwise(api: httpx.AsyncClient, connection: str) -> None:
    """Proves AC8: the form is changed before it is confirmed; what cannot be changes nothing."""
    content = "Name,Ort\nZoë,Köln\nJörg,Mölln\n"
    shown = await upload(api, connection, content.encode("cp1250", errors="replace"))
    path = f"/v1/imports/{shown['id']}"

    polish = await api.patch(path, json={"encoding": "windows-1250", "key_columns": ["Name"]})
    headless = await api.patch(path, json={"has_header": False})
    wrong = await api.patch(path, json={"encoding": "utf-8"})
    unknown = await api.patch(path, json={"key_columns": ["E-Mail"]})
    strange = await api.patch(path, json={"delimiter": "x"})

    assert polish.json()["encoding"] == "windows-1250"
    assert polish.json()["columns"][1]["samples"] == ["Köln", "Mölln"]
    assert polish.json()["key_columns"] == ["Name"]
    assert headless.json()["rows"] == 3
    assert [each["name"] for each in headless.json()["columns"]] == ["column 1", "column 2"]
    assert codes(wrong) == ["wrong_encoding"]
    assert codes(unknown) == ["unknown_key_column"]
    assert strange.status_code == 422
    assert (await api.get(path)).json() == headless.json()


async def test_a_large_file_is_stored_in_chunks_whose_rows_are_whole(
    api: httpx.AsyncClient,
    served: Served,
    connection: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Proves AC8: rows that go on over many lines and chunks are read as they were written."""
    monkeypatch.setattr(intake, "CHUNK_CHARACTERS", 300)
    rows = [
        [f"p{number}@example.org", "line\n" * (number % 90), 'a "quoted" word; and'[: number % 20]]
        for number in range(400)
    ]
    content = io.StringIO(newline="")
    csv.writer(content, delimiter=";").writerows([["Email", "Notiz", "Wort"], *rows])

    shown = await upload(api, connection, content.getvalue())
    confirmed = await api.post(f"/v1/imports/{shown['id']}:confirm")
    changed = await api.patch(f"/v1/imports/{shown['id']}", json={"delimiter": ","})

    assert shown["rows"] == 400
    assert confirmed.status_code == 200, confirmed.text
    assert (changed.status_code, changed.json()["code"]) == (409, "state_conflict")
    assert await cells_of(served, shown) == rows


async def cells_of(served: Served, shown: Json) -> list[list[str]]:
    """Return every row as the poller would see it."""
    async with served.owner.begin() as session:
        workspace = await session.scalar(text("select workspace_id from config.imports"))
    assert isinstance(workspace, UUID)
    connection = ids.parse(Prefix.CONNECTION, shown["connection_id"])
    files = UploadedFiles(transactions_of(served.owner), workspace, connection)
    file = await files.current()
    assert file is not None
    cells: list[list[str]] = []
    for number in range(file.chunks):
        chunk = await files.read_chunk(file.id, number)
        assert chunk is not None
        cells += [list(row.cells) for row in rows_of(chunk, file.form)]
    return cells


async def test_an_upload_that_is_sent_twice_happens_once(
    api: httpx.AsyncClient, connection: str
) -> None:
    """Proves X1 and X2: the same key and file, the same answer; another file is refused."""
    headers = {**CSV, "idempotency-key": "upload-1"}

    first = await send(api, connection, PEOPLE, headers)
    again = await send(api, connection, PEOPLE, headers)
    other = await send(api, connection, PEOPLE + "c@example.org;C;;3\n", headers)

    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len((await api.get("/v1/imports")).json()["items"]) == 1


async def test_another_workspaces_files_are_not_there(
    api: httpx.AsyncClient, served: Served, connection: str
) -> None:
    """Proves X3."""
    shown = await upload(api, connection, PEOPLE)
    other = await served.make_workspace()
    path = f"/v1/imports/{shown['id']}"

    async with served.caller(other["api_key"]["secret"]) as stranger:
        answers = [
            await stranger.get(path),
            await stranger.patch(path, json={"delimiter": ";"}),
            await stranger.post(f"{path}:confirm"),
            await stranger.delete(path),
            await stranger.get(f"{path}/errors.csv"),
            await stranger.get(f"{path}/suggested-mapping", params={"connection_id": connection}),
            await send(stranger, connection, PEOPLE),
        ]
        listed = (await stranger.get("/v1/imports")).json()["items"]

    assert [each.status_code for each in answers] == [404] * 7
    assert listed == []


async def test_a_mapping_is_suggested_by_names_in_two_languages(
    api: httpx.AsyncClient, served: Served, connection: str
) -> None:
    """Proves AC8 and W5: what is suggested can be saved as it is."""
    destination = await connect_brevo(api)
    for name in ("COMPANY", "STADT"):
        made = {"name": name, "type": "text"}
        await api.post(f"/v1/connections/{destination}/fields", json=made)
    header = "Kundennummer;E-Mail-Adresse;Vorname;Nachname;Mobiltelefon;Firma;City;Notiz\n"
    shown = await upload(api, connection, header + "1;a@example.org;A;B;;C;D;E\n")

    answer = await api.get(
        f"/v1/imports/{shown['id']}/suggested-mapping", params={"connection_id": destination}
    )
    wrong = await api.get(
        f"/v1/imports/{shown['id']}/suggested-mapping", params={"connection_id": connection}
    )

    suggested = answer.json()
    assert {each["destination"]: each["source"] for each in suggested["fields"]} == {
        "EMAIL": "E-Mail-Adresse",
        "SMS": "Mobiltelefon",
        "FIRSTNAME": "Vorname",
        "LASTNAME": "Nachname",
        "COMPANY": "Firma",
        "STADT": "City",
    }
    assert suggested["unmapped_columns"] == ["Kundennummer", "Notiz"]
    assert codes(wrong) == ["no_destination"]
    integration = await active_integration(api, connection, destination, shown, suggested["fields"])
    assert integration["state"] == "active"


async def active_integration(
    api: httpx.AsyncClient, connection: str, destination: str, shown: Json, fields: list[Json]
) -> Json:
    """Confirm a file, and have an integration that reads it."""
    confirmed = await api.post(f"/v1/imports/{shown['id']}:confirm")
    assert confirmed.status_code == 200, confirmed.text
    created = await api.post(f"/v1/connections/{destination}/lists", json={"name": "News"})
    made = (await api.post("/v1/integrations", json={"name": "CSV → Brevo"})).json()
    path = f"/v1/integrations/{made['id']}"
    await edit(
        api,
        "PATCH",
        path,
        {
            "source": {"connection_id": connection, "object": "contacts"},
            "opt_in": {"accepted": True},
            "destination": {"connection_id": destination, "list_id": created.json()["id"]},
            "default_country": "DE",
        },
    )
    await edit(api, "PUT", f"{path}/mapping", {"fields": fields}, resource=path)
    return await edit(api, "POST", f"{path}:activate", {}, resource=path)


FIELDS = [
    {"source": "E-Mail", "destination": "EMAIL"},
    {"source": "Vorname", "destination": "FIRSTNAME"},
]


async def test_a_new_file_is_a_new_full_run_of_each_integration(
    api: httpx.AsyncClient, served: Served, connection: str
) -> None:
    """Proves AC8: the file that is confirmed is read whole; one that is only uploaded is not."""
    destination = await connect_brevo(api)
    first = await upload(api, connection, PEOPLE)
    await active_integration(api, connection, destination, first, FIELDS)
    await have_read(served)

    second = await upload(api, connection, PEOPLE)
    before = await wanted_mode(served)
    await api.post(f"/v1/imports/{second['id']}:confirm")

    assert (before, await wanted_mode(served)) == ("changes", "full")


async def have_read(served: Served) -> None:
    """Do what the poller does at the end of a full run."""
    async with served.owner.begin() as session:
        await session.execute(
            text(
                "insert into sync.runs (run_id, integration_id, workspace_id, run_no, mode,"
                " mapping_version, fencing, state) select gen_random_uuid(), integration_id,"
                " workspace_id, 1, 'full', 1, 1, 'read' from sync.schedules"
            )
        )
        await session.execute(text("update sync.schedules set wanted_mode = 'changes', run_no = 1"))


async def wanted_mode(served: Served) -> str:
    async with served.owner.begin() as session:
        return str(await session.scalar(text("select wanted_mode from sync.schedules")))


async def test_a_file_that_came_while_paused_is_read_on_resuming(
    api: httpx.AsyncClient, served: Served, connection: str
) -> None:
    """Proves AC8: a run of changes reads no file, so resuming asks for a full one."""
    destination = await connect_brevo(api)
    first = await upload(api, connection, PEOPLE)
    made = await active_integration(api, connection, destination, first, FIELDS)
    path = f"/v1/integrations/{made['id']}"
    await have_read(served)

    await api.post(f"{path}:pause")
    await api.post(f"{path}:resume")
    same = await wanted_mode(served)
    await api.post(f"{path}:pause")
    second = await upload(api, connection, PEOPLE)
    await api.post(f"/v1/imports/{second['id']}:confirm")
    resumed = await api.post(f"{path}:resume")

    assert resumed.status_code == 200, resumed.text
    assert (same, await wanted_mode(served)) == ("changes", "full")


async def test_a_file_that_would_clear_what_is_mapped_is_refused(
    api: httpx.AsyncClient, connection: str
) -> None:
    """Proves AC8 and X1: a column that is not there is not a column of empty cells."""
    destination = await connect_brevo(api)
    await active_integration(
        api, connection, destination, await upload(api, connection, PEOPLE), FIELDS
    )
    other = await upload(api, connection, "E-Mail;First\na@example.org;A\n")
    keyless = await upload(api, connection, "Wort;Zahl\na;b\n")

    refused = await api.post(f"/v1/imports/{other['id']}:confirm")
    nobody = await api.post(f"/v1/imports/{keyless['id']}:confirm")

    assert codes(refused) == ["column_missing"]
    assert "Vorname" in refused.json()["errors"][0]["detail"]
    assert codes(nobody) == ["key_columns_missing"]
    assert (await api.get(f"/v1/imports/{other['id']}")).json()["state"] == "ready"


async def test_an_older_file_does_not_follow_a_newer_one(
    api: httpx.AsyncClient, connection: str
) -> None:
    """Its contacts would all be older than what is written: the version is the upload's time."""
    older = await upload(api, connection, PEOPLE)
    newer = await upload(api, connection, PEOPLE)
    await api.post(f"/v1/imports/{newer['id']}:confirm")

    refused = await api.post(f"/v1/imports/{older['id']}:confirm")
    twice = await api.post(f"/v1/imports/{newer['id']}:confirm")
    kept = await api.delete(f"/v1/imports/{newer['id']}")
    gone = await api.delete(f"/v1/imports/{older['id']}")

    assert (refused.status_code, refused.json()["newer_import_id"]) == (409, newer["id"])
    assert [twice.status_code, kept.status_code, gone.status_code] == [409, 409, 204]
    assert (await api.get(f"/v1/imports/{older['id']}")).status_code == 404


async def test_each_row_that_was_not_written_is_told_with_its_number(
    api: httpx.AsyncClient, served: Served, connection: str
) -> None:
    """Proves AC8 and X1: row number, reason and remedy, in the reader's language."""
    destination = await connect_brevo(api)
    content = (
        "Kundennummer;E-Mail;Vorname\n"
        "1;ada@example.org;Ada\n"
        "\n"
        "2;wrong;Bob\n"
        '3;"c@example.org;\n";"C\n"\n'
        "1;ada@example.org;Ada again\n"
        "=5;e@example.org;E\n"
        "4;d@example.org\n"
    )
    shown = await upload(api, connection, content)
    path = f"/v1/imports/{shown['id']}"
    early = await api.get(f"{path}/errors.csv")
    await api.patch(path, json={"key_columns": ["Kundennummer"]})
    made = await active_integration(api, connection, destination, shown, FIELDS)
    rejected = {"2": "invalid_email", "3": "invalid_email", "=5": "invalid_email"}
    await settle(served, made["id"], rejected)

    german = await api.get(f"{path}/errors.csv", headers={"accept-language": "de"})

    assert early.status_code == 409
    assert german.headers["content-type"].startswith("text/csv")
    lines = list(csv.reader(io.StringIO(german.text, newline="")))
    assert lines[0] == ["row", "status", "reason", "what", "remedy", "contact"]
    assert [(row, status, reason) for row, status, reason, *_ in lines[1:]] == [
        ("4", "rejected", "invalid_email"),
        ("5", "rejected", "invalid_email"),
        ("6", "skipped", "row_duplicate"),
        ("7", "rejected", "invalid_email"),
        ("8", "rejected", "row_ragged"),
    ]
    assert lines[1][3] == "Die E-Mail-Adresse ist ungültig."
    assert [line[5] for line in lines[1:4]] == ["2", "3", "1"]
    assert lines[4][5] == "'=5"  # No spreadsheet takes it for a formula.
    assert "example.org" not in german.text


async def settle(served: Served, integration: str, rejected: dict[str, str]) -> None:
    """Write what activity writes of contacts that were rejected."""
    async with served.owner.begin() as session:
        for source_id, reason in rejected.items():
            await session.execute(
                text(
                    "insert into activity.contacts (integration_id, source_id, workspace_id,"
                    " status, reason, run_no) select integration_id, :source_id, workspace_id,"
                    " 'rejected', :reason, 1 from config.integrations"
                    " where integration_id = :integration"
                ),
                {
                    "source_id": source_id,
                    "reason": reason,
                    "integration": ids.parse(Prefix.INTEGRATION, integration),
                },
            )


async def test_an_upload_that_is_cut_off_leaves_nothing(
    api: httpx.AsyncClient, served: Served, connection: str
) -> None:
    """Proves X1 and X2: half a file is none, and the same Idempotency-Key may send it again."""
    headers = {**CSV, "idempotency-key": "cut-1"}
    line = "someone@example.org;" + "x" * 100 + "\n"

    async def cut() -> AsyncIterator[bytes]:
        yield ("Email;Note\n" + line * 3_000).encode()
        raise ClientDisconnect

    refused = await send(api, connection, cut(), headers)
    again = await send(api, connection, PEOPLE, headers)

    assert codes(refused) == ["upload_cut_off"]
    assert again.status_code == 201
    assert await kept(served) == (1, 1)
