"""/v1/problems: what each code of a problem document means; their `type` points here."""

from collections.abc import Sequence

from fastapi import APIRouter

from services.config_api.errors import PROBLEMS, ApiError
from services.config_api.models import Shown, found

router = APIRouter(tags=["problems"])


class ProblemKind(Shown):
    """A kind of problem: when it comes, and what to do."""

    code: str
    status: int
    title: str
    remedy: str


class ProblemKinds(Shown):
    """All kinds there are."""

    items: Sequence[ProblemKind]


@router.get("/v1/problems")
async def list_problems() -> ProblemKinds:
    """List every code that an answer may carry."""
    return ProblemKinds(items=[_shown(kind) for kind in PROBLEMS.values()])


@router.get("/v1/problems/{code}")
async def read_problem(code: str) -> ProblemKind:
    """Explain one code."""
    return _shown(found(PROBLEMS.get(code), "problem"))


def _shown(kind: type[ApiError]) -> ProblemKind:
    return ProblemKind(code=kind.code, status=kind.status, title=kind.title, remedy=kind.remedy)
