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
def test_files_in_the_guide_exist(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("path", sorted(str(path.relative_to(ROOT)) for path in (ROOT / "deploy").iterdir()))
def test_the_guide_mentions_everything_in_deploy(path: str) -> None:
    assert path in GUIDE or Path(path).suffix == ".dockerignore"


def test_links_within_the_guide_are_valid() -> None:
    assert set(re.findall(r"\]\(#([\w-]+)\)", GUIDE)) <= HEADINGS


@pytest.mark.parametrize("arguments", re.findall(r"(?:launch\.py|\.sbatch) (--(?!help).*?)(?:'|`|\n)", GUIDE))
def test_commands_in_the_guide_are_valid(arguments: str) -> None:
    words = arguments.split()
    options = parse(words if "--space" in words else [*words, "--space", "search_spaces/smoke.yaml"])
    assert options.space is not None
    assert str(options.space) == "FILE" or (ROOT / options.space).is_file()  # FILE is a placeholder


def test_the_guide_explains_the_exit_codes_in_help() -> None:
    codes = set(re.findall(r"(?<!\S)(\d+)(?=,? )", EPILOG.partition("exit codes:")[2])) | {"130", "143"}
    (explained,) = re.findall(r"^Exit codes, .*?interrupted\.", GUIDE, re.MULTILINE | re.DOTALL)
    assert codes == set(re.findall(r"\b\d+\b", explained))
