"""Query jobs of the Bulk API 2.0: a query that runs by itself, and its result in pieces of CSV.

A job runs when its time has come, and finds what there is then. Its result stays for seven days.
A locator does not change and may be read again. Sources: the Bulk API 2.0 guide on query jobs.
"""

import binascii
import csv
import io
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sandbox.salesforce import soql
from sandbox.salesforce.errors import refused
from sandbox.salesforce.ids import BULK_JOB, new_id
from sandbox.salesforce.moments import in_csv, written
from sandbox.salesforce.org import Org
from sandbox.salesforce.records import Row
from sandbox.salesforce.search import Column, Searcher

KEPT_S = 7 * 86_400
JOBS_A_DAY_MAX = 10_000
DELIMITERS = {
    "BACKQUOTE": "`",
    "CARET": "^",
    "COMMA": ",",
    "PIPE": "|",
    "SEMICOLON": ";",
    "TAB": "\t",
}
ENDINGS = {"LF": "\n", "CRLF": "\r\n"}
LAST = "null"  # The locator of the last piece, as text.


class JobState(StrEnum):
    UPLOAD_COMPLETE = "UploadComplete"
    IN_PROGRESS = "InProgress"
    COMPLETE = "JobComplete"
    ABORTED = "Aborted"


@dataclass(slots=True)
class Job:
    """A query job; `rows` are None until it has run."""

    id: str
    org: Org
    query: soql.Query
    with_deleted: bool
    version: str
    delimiter: str
    ending: str
    made_s: float
    due_s: float
    looked_at: bool = False
    is_aborted: bool = False
    rows: Sequence[Row] | None = None

    def state(self, now_s: float) -> JobState:
        """Return how far the job is; what is due is run."""
        if self.is_aborted:
            return JobState.ABORTED
        if now_s < self.due_s:
            return JobState.IN_PROGRESS if self.looked_at else JobState.UPLOAD_COMPLETE
        if self.rows is None:
            self.rows = Searcher(self.org, self.query).rows(with_deleted=self.with_deleted)
        return JobState.COMPLETE

    def described(self, now_s: float) -> dict[str, Any]:
        made = written(self.made_s)
        return {
            "id": self.id,
            "operation": "queryAll" if self.with_deleted else "query",
            "object": Searcher(self.org, self.query).table.name,
            "createdById": self.org.user["Id"],
            "createdDate": made,
            "systemModstamp": made,
            "state": str(self.state(now_s)),
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": float(self.version.removeprefix("v")),
            "lineEnding": self.ending,
            "columnDelimiter": self.delimiter,
        }

    def piece(self, start: int, rows_max: int) -> tuple[bytes, int, str]:
        """Return records from a place on as CSV, how many they are, and where to read on."""
        rows = (self.rows or ())[start : start + rows_max]
        columns = Searcher(self.org, self.query).columns()
        text = io.StringIO()
        lines = csv.writer(
            text,
            delimiter=DELIMITERS[self.delimiter],
            lineterminator=ENDINGS[self.ending],
            quoting=csv.QUOTE_ALL,
        )
        lines.writerow([".".join(each.names) for each in columns])
        lines.writerows([_cell(each, row) for each in columns] for row in rows)
        after = start + len(rows)
        locator = LAST if after >= len(self.rows or ()) else locator_at(after)
        return text.getvalue().encode(), len(rows), locator


def _cell(column: Column, row: Row) -> str:
    """Return a value as CSV has it: null and an empty text look alike."""
    value = column.read(row)
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case _:
            return in_csv(value) if column.field.type == "datetime" else str(value)


def locator_at(place: int) -> str:
    return b64encode(str(place).encode()).decode().rstrip("=")


def place_of(locator: str) -> int:
    """Return the place that a locator means; raise the 400 of one that means none."""
    if locator in {"", LAST}:
        return 0
    try:
        return int(b64decode(locator + "=" * (-len(locator) % 4)))
    except (binascii.Error, ValueError):
        raise refused(400, "INVALID_QUERY_LOCATOR", "invalid query locator") from None


class Jobs:
    """The query jobs of all orgs."""

    def __init__(self) -> None:
        self._by_id: dict[str, Job] = {}
        self._made = 0

    def make(self, org: Org, version: str, wish: dict[str, Any]) -> Job:
        """Make a job; raise the 400 of a query that the Bulk API does not take."""
        query = soql.parse(str(wish.get("query", "")))
        _check(org, query)
        now_s = org.clock.now_s()
        if org.jobs_of_the_day() >= JOBS_A_DAY_MAX:
            made = org.jobs_of_the_day() + 1
            message = (
                f"Max bulk v2 query jobs ({JOBS_A_DAY_MAX}) per 24 hrs has been reached ({made})"
            )
            raise refused(400, "LIMIT_EXCEEDED", message)
        org.job_times_s.append(now_s)
        self._made += 1
        job = Job(
            new_id(BULK_JOB, org.number, self._made),
            org,
            query,
            wish.get("operation") == "queryAll",
            version,
            str(wish.get("columnDelimiter", "COMMA")),
            str(wish.get("lineEnding", "LF")),
            now_s,
            now_s + org.settings.bulk_delay_s,
        )
        self._by_id[job.id] = job
        return job

    def of(self, org: Org) -> list[Job]:
        """Return an org's jobs that are still kept."""
        now_s = org.clock.now_s()
        self._by_id = {
            key: each for key, each in self._by_id.items() if now_s - each.due_s < KEPT_S
        }
        return [each for each in self._by_id.values() if each.org is org]

    def drop(self, job: Job) -> None:
        del self._by_id[job.id]


def _check(org: Org, query: soql.Query) -> None:
    searcher = Searcher(org, query)
    if query.is_aggregate or query.offset:
        message = "Aggregate functions, GROUP BY and OFFSET are not supported in Bulk Query"
        raise refused(400, "API_ERROR", message)
    if any(isinstance(each, soql.AllFields) for each in query.select):
        message = "The SOQL FIELDS function is not supported in Bulk Query"
        raise refused(400, "API_ERROR", message)
    if any(each.field.type == "address" for each in searcher.columns()):
        message = "Selecting compound data not supported in Bulk Query"
        raise refused(400, "API_ERROR", message)
