from pathlib import Path

import pytest

from tune_jobs.commands.space_tree import MAX_COUNTED, counts, space_tree
from tune_jobs.space import SearchSpace, load_space


def space(folder: Path, text: str) -> SearchSpace:
    (folder / "tree.yaml").write_text(text)
    return load_space(folder / "tree.yaml")


def test_parameters_are_below_the_parameter_they_depend_on(tmp_path: Path) -> None:
    tree = space_tree(
        space(
            tmp_path,
            """
            space:
              model.exit_stages: {choices: [[], [1], [2]]}
              model.exit_depth: {choices: [fc, 2], when: {model.exit_stages: [[1], [2]]}}
              loss.exit_weight:
                - {low: 0.1, high: 1.0, when: {model.exit_stages: [[1]], model.exit_depth: [fc]}}
                - {low: 0.5, high: 4.0, when: {model.exit_stages: [[1], [2]]}}
              optim.momentum: {choices: [0.8, 0.9], when: {model.exit_stages: [[1]]}}
              loss.temperature: {low: 0.05, high: 0.5, log: true}
            """,
        )
    )
    assert tree == [
        "model.exit_stages       [] | [1] | [2]",
        "├─ model.exit_depth     fc | 2   if [1] or [2]",
        "│                       fc       otherwise",
        "│  └─ loss.exit_weight  0.1 to 1.0   if model.exit_stages is [1] and fc",
        "│                       0.5 to 4.0   if model.exit_stages is [1] or [2]",
        "│                       1.0          otherwise",
        "└─ optim.momentum       0.8 | 0.9   if [1]",
        "                        0.9         otherwise",
        "loss.temperature        0.05 to 0.5, log",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loss.temperature: {low: 0.1, high: 0.5}", "1 continuous range"),
        ("loss.temperature: {low: 0.1, high: 0.5, step: 0.1}", "5 combinations"),
        ("seed: {choices: [3]}", "1 combination"),
        ("optim.epochs: {low: 10, high: 40, step: 10}", "4 combinations"),
        (
            "model.exit_stages: {choices: [[1], [2], [3]]}\n"
            "  model.exit_depth: {choices: [fc, small], when: {model.exit_stages: [[1], [2]]}}\n"
            "forbid: [{model.exit_stages: [1], model.exit_depth: small}, {model.exit_stages: [3]}]",
            "3 combinations",
        ),
        (
            "seed: {low: 0, high: 9}\n  loss.temperature: {low: 0.1, high: 0.5}\n"
            "  loss.exit_weight: {low: 0.1, high: 0.5}",
            "10 combinations and 2 continuous ranges",
        ),
        ("seed: {low: 0, high: 1000000}", f"more than {MAX_COUNTED:,} combinations"),
    ],
)
def test_combinations_and_ranges_are_counted(tmp_path: Path, text: str, expected: str) -> None:
    assert counts(space(tmp_path, f"space:\n  {text}\n")) == expected
