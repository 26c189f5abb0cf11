import os
import subprocess
import sys
from pathlib import Path

from local.stack import ROOT

PROGRAM = """
import sys

try:
    import rich
except ModuleNotFoundError:
    print("none", *sys.argv[1:], __name__)
"""


def test_a_service_finds_only_what_its_image_has(tmp_path: Path) -> None:
    (tmp_path / "some_service.py").write_text(PROGRAM)

    ended = subprocess.run(
        [sys.executable, "-m", "local.service", "some_service", "--provider", "hubspot"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert ended.stdout.split() == ["none", "--provider", "hubspot", "__main__"]


def test_what_is_hidden_is_in_no_image() -> None:
    image = (ROOT / "requirements" / "services.txt").read_text()

    assert "\nrich==" not in image
    assert "\nstructlog==" in image
