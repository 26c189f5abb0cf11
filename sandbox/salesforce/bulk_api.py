"""Query jobs over HTTP: made, looked at, read in pieces, aborted, deleted."""

from typing import Any

from sandbox.exchange import Answer, RefusedError, Request, Routes
from sandbox.salesforce.errors import JSON, answer, not_found, refused
from sandbox.salesforce.jobs import DELIMITERS, ENDINGS, LAST, Job, JobState, locator_at, place_of
from sandbox.salesforce.org import Org
from sandbox.salesforce.query_api import DATA
from sandbox.salesforce.rows_api import object_of
from sandbox.salesforce.state import State

JOBS = f"{DATA}/jobs/query"
RECORDS_DEFAULT = 50_000
PAGES_MAX = 5
CHOICES = {
    "operation": ("query", "queryAll"),
    "contentType": ("CSV",),
    "columnDelimiter": tuple(DELIMITERS),
    "lineEnding": tuple(ENDINGS),
}


def register(routes: Routes[Org], state: State) -> None:
    """Add the endpoints about query jobs."""
    _register_results(routes, state)

    @routes.add("POST", JOBS)
    def make(account: Org, request: Request) -> Answer:
        wish = dict(object_of(request))
        for name, allowed in CHOICES.items():
            if wish.get(name, allowed[0]) not in allowed:
                raise refused(400, "INVALIDJOB", f"Invalid {name}: {wish[name]}")
        job = state.jobs.make(account, request.arguments["version"], wish)
        told = {**job.described(account.clock.now_s()), "state": str(JobState.UPLOAD_COMPLETE)}
        job.looked_at = True
        return Answer(200, told, media_type=JSON)

    @routes.add("GET", JOBS)
    def every(account: Org, request: Request) -> Answer:
        jobs = [each.described(account.clock.now_s()) for each in state.jobs.of(account)]
        return Answer(200, {"done": True, "records": jobs, "nextRecordsUrl": None})

    @routes.add("GET", f"{JOBS}/{{id}}")
    def read(account: Org, request: Request) -> Answer:
        return Answer(200, _progress(_found(state, account, request)), media_type=JSON)

    @routes.add("PATCH", f"{JOBS}/{{id}}")
    def abort(account: Org, request: Request) -> Answer:
        job = _found(state, account, request)
        if object_of(request).get("state") != "Aborted":
            raise refused(400, "INVALIDJOBSTATE", "the state of a query job can be Aborted only")
        job.is_aborted = True
        return Answer(200, _progress(job), media_type=JSON)

    @routes.add("DELETE", f"{JOBS}/{{id}}")
    def drop(account: Org, request: Request) -> Answer:
        state.jobs.drop(_found(state, account, request))
        return Answer(204)


def _register_results(routes: Routes[Org], state: State) -> None:
    @routes.add("GET", f"{JOBS}/{{id}}/results")
    def results(account: Org, request: Request) -> Answer:
        job = _complete(_found(state, account, request), request)
        wish = request.parameter("maxRecords")
        most = int(wish) if wish.isdigit() else RECORDS_DEFAULT
        body, number, locator = job.piece(place_of(request.parameter("locator")), max(most, 1))
        headers = {"Sforce-NumberOfRecords": str(number), "Sforce-Locator": locator}
        return Answer(200, body, headers, "text/csv")

    @routes.add("GET", f"{JOBS}/{{id}}/resultPages")
    def pages(account: Org, request: Request) -> Answer:
        return Answer(
            200, _pages(_complete(_found(state, account, request), request)), media_type=JSON
        )


def _found(state: State, account: Org, request: Request) -> Job:
    wanted = request.arguments["id"]
    job = next((each for each in state.jobs.of(account) if each.id == wanted), None)
    if job is None:
        raise not_found()
    return job


def _progress(job: Job) -> dict[str, Any]:
    told = job.described(job.org.clock.now_s())
    processed = len(job.rows or ())
    return {**told, "numberRecordsProcessed": processed, "retries": 0, "totalProcessingTime": 1}


def _complete(job: Job, request: Request) -> Job:
    """Return a job that has results to show, in the version that it was made in."""
    is_complete = job.state(job.org.clock.now_s()) is JobState.COMPLETE
    if not is_complete or job.version != request.arguments["version"]:
        message = "results need a job that is complete, and the version it was made in"
        raise RefusedError(answer(409, "INVALIDJOBSTATE", message))
    return job


def _pages(job: Job) -> dict[str, Any]:
    """Return where the first pieces of a result are, to be read side by side."""
    base = f"/services/data/{job.version}/jobs/query/{job.id}/results"
    places = range(0, max(len(job.rows or ()), 1), RECORDS_DEFAULT)
    urls = [f"{base}?locator={locator_at(place) if place else LAST}" for place in places]
    first = [{"resultUrl": each} for each in urls[:PAGES_MAX]]
    return {"resultPages": first, "nextRecordUrl": None, "done": len(urls) <= PAGES_MAX}
