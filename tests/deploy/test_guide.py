import re
from pathlib import Path

import pytest

from tests.project import ROOT
from tune_jobs.commands.command_line import parse
from tune_jobs.flags import EPILOG

GUIDE = (ROOT / "docs" / "cluster.md").read_text()
HEADINGS = {
    heading.lower().replace("`", "").replace(" ", "-")
    for heading in re.findall(r"^## (.*)$", GUIDE, re.MULTILINE)
}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\bdeploy/[\w./-]*\w", GUIDE))))
def test_the_guide_names_files_that_are_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("path", sorted(str(path.relative_to(ROOT)) for path in (ROOT / "deploy").iterdir()))
def test_the_guide_names_everything_in_deploy(path: str) -> None:
    assert path in GUIDE or Path(path).suffix == ".dockerignore"


def test_links_within_the_guide_lead_somewhere() -> None:
    assert set(re.findall(r"\]\(#([\w-]+)\)", GUIDE)) <= HEADINGS


@pytest.mark.parametrize("arguments", re.findall(r"(?:launch\.py|\.sbatch) (--(?!help).*?)(?:'|`|\n)", GUIDE))
def test_commands_of_the_guide_are_understood(arguments: str) -> None:
    words = arguments.split()
    options = parse(words if "--space" in words else [*words, "--space", "search_spaces/smoke.yaml"])
    assert options.space is not None
    assert str(options.space) == "FILE" or (ROOT / options.space).is_file()  # FILE is the reader's own


def test_the_guide_explains_the_exit_codes_that_help_lists() -> None:
    codes = set(re.findall(r"(?<!\S)(\d+)(?=,? )", EPILOG.partition("exit codes:")[2])) | {"130", "143"}
    (explained,) = re.findall(r"^Exit codes, .*?interrupted\.", GUIDE, re.MULTILINE | re.DOTALL)
    assert codes == set(re.findall(r"\b\d+\b", explained))
