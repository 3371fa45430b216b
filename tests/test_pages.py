"""Commands, links and file names in the documentation.

Commands that install something or need another machine are only parsed. The rest runs in other tests: Python
blocks in tune_jobs/commands/test_search.py and tune_jobs/registry/test_serving.py, examples in
tune_jobs/commands/test_search.py and test_examples_alone.py, spaces in tune_jobs/space/test_reference.py.
"""

import re
import shlex
import subprocess

import pytest

from tests.project import ROOT
from tune_jobs.commands.command_line import parse

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
PROGRAMS = (
    "make", "python", "pip", "mlflow", "ray", "kubectl", "docker", "sbatch", "curl", "source", "export",
    "chmod", "sqlite3", "pg_dump", "rm", "mv", "cp", "df",
)  # fmt: skip
FOLDERS = ("selfcon", "tune_jobs", "search_spaces", "tests", "benchmarks", "examples", "deploy", "docs")
WINNER = "runs/*/best.yaml"  # written by a search
PLACEHOLDER = "FILE"  # stands for the reader's space file
JOINED = "\n".join(PAGES.values()).replace("\\\n", " ")  # joins commands that span several lines


def commands() -> list[str]:
    """The commands in the code blocks of the pages."""
    fenced = "\n".join(re.findall(r"```bash\n(.*?)```", JOINED, re.DOTALL))
    lines = [*re.findall(r"^    (\S.*)$", JOINED, re.MULTILINE), *fenced.splitlines()]
    return sorted({line.strip() for line in lines if program_of(line) in PROGRAMS})


def program_of(line: str) -> str:
    """The program that a line runs, after the variables that it sets."""
    words = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line).split() or [""]
    return words[0].removeprefix(".venv/bin/")


def launches() -> list[str]:
    """The arguments of each `launch.py` call, in blocks, in other commands and in the text."""
    found = re.findall(r"launch\.py (--(?!help)[^`'\n]*?)(?:  +#|'|`|\n|$)", JOINED)
    return sorted({arguments.strip() for arguments in found})


def anchors_of(text: str) -> set[str]:
    """The link anchors that GitHub generates for the headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("command", commands())
def test_a_command_is_valid_shell(command: str) -> None:
    checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
    assert not checked.stderr


@pytest.mark.parametrize("arguments", launches())
def test_a_launch_is_parsed_and_its_space_file_exists(arguments: str) -> None:
    words = shlex.split(arguments)
    options = parse(words)
    if options.space is None:
        assert options.compare or options.doctor
        return
    is_example = str(options.space) == PLACEHOLDER or options.space.match(WINNER)
    assert is_example or (ROOT / options.space).is_file()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z]\w*)", "\n".join(commands())))))
def test_a_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "link"),
    [(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\(([^):\s]+)\)", text)],
)
def test_the_target_of_a_link_exists(page: str, link: str) -> None:
    file, _, anchor = link.partition("#")
    target = (ROOT / page).parent / file if file else ROOT / page
    assert target.exists()
    assert not anchor or anchor in anchors_of(target.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(set(re.findall(rf"\b(?:{'|'.join(FOLDERS)})/[\w./-]*\w", JOINED))))
def test_a_file_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_python_block_is_run_by_a_test() -> None:
    assert {page: text.count("```python") for page, text in PAGES.items() if "```python" in text} == {
        "README.md": 1,
        "docs/encoder.md": 1,
    }
