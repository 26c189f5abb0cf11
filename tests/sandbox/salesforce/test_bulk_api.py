"""Query jobs of the Salesforce sandbox's Bulk API 2.0."""

from typing import Any

import httpx
import pytest

from tests.sandbox.salesforce.served import Served, V

JOBS = f"{V}/jobs/query"


async def made(served: Served, query: str, **wishes: str) -> dict[str, Any]:
    body = {"operation": "query", "query": query, **wishes}
    answer = await served.http.post(JOBS, json=body)
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def piece(served: Served, job: dict[str, Any], **parameters: str | int) -> httpx.Response:
    return await served.http.get(f"{JOBS}/{job['id']}/results", params=parameters)


async def test_a_result_is_read_in_pieces_of_csv(served: Served) -> None:
    ids = await served.fill(3)
    job = await made(served, "SELECT Id, Email, Newsletter__c, SystemModstamp FROM Contact")
    progress = await served.get(f"/jobs/query/{job['id']}")

    first = await piece(served, job, maxRecords=2)
    last = await piece(served, job, maxRecords=2, locator=first.headers["sforce-locator"])
    again = await piece(served, job, maxRecords=2, locator=first.headers["sforce-locator"])

    assert (job["state"], progress["state"]) == ("UploadComplete", "JobComplete")
    assert (job["object"], job["apiVersion"], progress["numberRecordsProcessed"]) == (
        *("Contact", 67.0, 3),
    )
    lines = first.text.split("\n")
    assert lines[0] == '"Id","Email","Newsletter__c","SystemModstamp"'
    assert lines[1].startswith(f'"{ids[0]}","')
    assert lines[1].endswith('","false","2026-09-21T14:13:20.000Z"')
    assert (first.headers["sforce-numberofrecords"], last.headers["sforce-numberofrecords"]) == (
        *("2", "1"),
    )
    assert last.headers["sforce-locator"] == "null"
    assert last.text == again.text


async def test_null_and_what_csv_has_to_quote(served: Served) -> None:
    await served.put(LastName='The "Quoted"\nCo', FirstName=None)
    job = await made(
        served,
        "SELECT LastName, FirstName, Account.Name FROM Contact",
        columnDelimiter="SEMICOLON",
        lineEnding="CRLF",
    )

    assert (await piece(served, job)).content == (
        b'"LastName";"FirstName";"Account.Name"\r\n"The ""Quoted""\nCo";"";""\r\n'
    )


async def test_query_all_finds_what_was_deleted(served: Served) -> None:
    ids = await served.fill(2)
    await served.control("POST", "contacts:delete", {"ids": ids[:1]})
    job = await made(served, "SELECT Id FROM Contact", operation="queryAll")

    assert (await piece(served, job)).headers["sforce-numberofrecords"] == "2"


async def test_a_job_takes_its_time_and_finds_what_is_there_then(served: Served) -> None:
    await served.settings(bulk_delay_s=60)
    job = await made(served, "SELECT Id FROM Contact")
    running = await served.get(f"/jobs/query/{job['id']}")
    early = await piece(served, job)
    await served.fill(1)
    served.time.now_s += 60
    done = await piece(served, job)
    other_version = await served.http.get(f"/services/data/v66.0/jobs/query/{job['id']}/results")

    assert running["state"] == "InProgress"
    assert (early.status_code, other_version.status_code) == (409, 409)
    assert done.headers["sforce-numberofrecords"] == "1"


async def test_jobs_are_listed_aborted_deleted_and_forgotten(served: Served) -> None:
    await served.settings(bulk_delay_s=60)
    jobs = [await made(served, "SELECT Id FROM Contact") for _ in range(3)]
    aborted = await served.http.patch(f"{JOBS}/{jobs[0]['id']}", json={"state": "Aborted"})
    wrong = await served.http.patch(f"{JOBS}/{jobs[1]['id']}", json={"state": "Open"})
    deleted = await served.http.delete(f"{JOBS}/{jobs[1]['id']}")
    left = (await served.get("/jobs/query"))["records"]
    served.time.now_s += 7 * 86_400 + 60

    assert (aborted.json()["state"], wrong.status_code, deleted.status_code) == (
        *("Aborted", 400, 204),
    )
    assert [each["id"] for each in left] == [jobs[0]["id"], jobs[2]["id"]]
    assert (await piece(served, jobs[0])).status_code == 404


async def test_pieces_can_be_found_side_by_side(served: Served) -> None:
    await served.fill(1)
    job = await made(served, "SELECT Id FROM Contact")

    pages = await served.get(f"/jobs/query/{job['id']}/resultPages")
    result = await served.http.get(pages["resultPages"][0]["resultUrl"])

    assert pages["done"] is True
    assert result.headers["sforce-numberofrecords"] == "1"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"query": "SELECT MailingAddress FROM Contact"}, "API_ERROR"),
        ({"query": "SELECT COUNT(Id) FROM Contact"}, "API_ERROR"),
        ({"query": "SELECT Id FROM Contact OFFSET 1"}, "API_ERROR"),
        ({"query": "SELECT FIELDS(ALL) FROM Contact LIMIT 1"}, "API_ERROR"),
        ({"query": "SELECT Id"}, "MALFORMED_QUERY"),
        ({"query": "SELECT Id FROM Contact", "operation": "insert"}, "INVALIDJOB"),
        ({"query": "SELECT Id FROM Contact", "lineEnding": "CR"}, "INVALIDJOB"),
    ],
)
async def test_what_the_bulk_api_does_not_take_is_refused(
    served: Served, body: dict[str, str], code: str
) -> None:
    answer = await served.http.post(JOBS, json=body)

    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, code)


async def test_there_are_ten_thousand_jobs_a_day(served: Served) -> None:
    served.state.default.job_times_s = [served.time.now_s] * 9_999
    await made(served, "SELECT Id FROM Contact")
    over = await served.http.post(JOBS, json={"query": "SELECT Id FROM Contact"})

    assert (over.status_code, over.json()[0]["errorCode"]) == (400, "LIMIT_EXCEEDED")
    assert (await served.get("/limits"))["DailyBulkV2QueryJobs"]["Remaining"] == 0
