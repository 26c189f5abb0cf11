"""Where data may be, and what is said if it may not."""

import os
from pathlib import Path

import pytest

from local import folders, packages, postgres
from local.errors import StackError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")


def test_a_folder_that_cannot_be_made_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StackError, match="cannot write to") as caught:
        folders.writable(tmp_path / "file" / "data")

    assert str(tmp_path / "file" / "data") in caught.value.what
    assert "chown" in caught.value.remedy


def test_an_ordinary_users_data_stay_where_they_are(tmp_path: Path) -> None:
    assert folders.reachable(tmp_path / "data", by=None) == tmp_path / "data"


@needs_root
def test_data_under_a_closed_folder_go_where_postgresql_can_reach_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, temporary = tmp_path / "closed", tmp_path / "temporary"
    closed.mkdir(mode=0o700)
    temporary.mkdir(mode=0o755)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    user = folders.unprivileged_user()

    elsewhere = folders.reachable(closed / "data", by=user)

    assert elsewhere.parent == temporary
    assert folders.reachable(closed / "data", by=user) == elsewhere
    assert folders.reachable(temporary / "data", by=user) == temporary / "data"


@needs_root
def test_that_no_place_can_be_reached_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with pytest.raises(StackError, match="can reach neither"):
        folders.reachable(tmp_path / "data", by=folders.unprivileged_user())


def test_a_package_that_cannot_be_fetched_is_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JGO_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "repository"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # RFC 863's port: nobody listens.

    with pytest.raises(StackError, match=r"cannot fetch org\.example:nothing:1\.0") as caught:
        packages.jars("org.example:nothing:1.0")

    assert "HTTPS_PROXY" in caught.value.remedy
    assert str(tmp_path / "cache") in caught.value.remedy


def test_a_machine_without_binaries_is_told_what_else_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "s390x")

    with pytest.raises(StackError, match=r"no PostgreSQL binaries for .* s390x"):
        postgres.artifact()
