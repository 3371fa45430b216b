from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfcon.checkpoints.state import TrainingState, checkpoint_payloads
from selfcon.model import build_encoder
from tune_jobs.checkpoints.retention import Retention, removable
from tune_jobs.checkpoints.size import max_total_bytes, num_protected
from tune_jobs.checkpoints.store import open_store
from tune_jobs.checkpoints.trial_checkpoints import TrialCheckpoints
from tune_jobs.space import load_space
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.study.search_study import SearchStudy

AT_ONCE, NUM_TRIALS, EPOCHS = 2, 5, 3
SPACE = """
name: kept
train:
  data: {dataset: digits, image_size: 16}
  model: {width: 4, exit_stages: [2], exit_depth: fc}
  optim: {epochs: 3, global_batch_size: 64}
space: {model.projection_dim: {low: 8, high: 128}}
search: {num_trials: 5, sampler: random, max_concurrent: 2, checkpoint_budget: 2MB}
confirm: {top_k: 2, seeds: 2}
"""


@given(data=st.data())
def test_only_checkpoints_that_are_not_needed_are_removed(
    data: st.DataObject, make_record: Callable[..., TrialRecord]
) -> None:
    states = data.draw(st.lists(st.sampled_from(State), max_size=6))
    records = [replace(make_record(i), state=state) for i, state in enumerate(states)]
    ranked = data.draw(st.permutations([r for r in records if r.state == State.COMPLETE]))
    sizes = {f"{i:04d}": data.draw(st.integers(0, 5)) for i in range(8)}  # two trials are not in the study
    num, budget = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 10))
    found = removable(records, ranked, sizes=sizes, num_protected=num, budget_bytes=budget)
    ended = {record.name for record in records if record.state != State.RUNNING}
    assert set(found) <= ended - {record.name for record in ranked[:num]}
    remaining = [record.name for record in ranked[num:] if record.name not in found]
    assert sum(sizes[name] for name in remaining) <= budget
    left = {name: 0 if name in found else size for name, size in sizes.items()}
    assert removable(records, ranked, sizes=left, num_protected=num, budget_bytes=budget) == []


def test_the_budget_keeps_the_best_trials_first(make_record: Callable[..., TrialRecord]) -> None:
    records = [replace(make_record(i), state=State.COMPLETE) for i in range(4)]
    sizes = {record.name: 3 for record in records}
    found = removable(records, records[::-1], sizes=sizes, num_protected=1, budget_bytes=6)
    assert found == ["0000"]


def test_the_checkpoints_on_disk_never_exceed_the_bound(tmp_path: Path) -> None:
    """Real checkpoints of real networks, in trials and repetitions that run two at a time."""
    (tmp_path / "space.yaml").write_text(SPACE)
    space, place = load_space(tmp_path / "space.yaml"), tmp_path / "kept"
    study, store = (
        SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="d"),
        open_store(str(place)),
    )
    study.set_num_trials(NUM_TRIALS)
    assert study.confirmation is not None
    protected = num_protected(space, NUM_TRIALS)
    retention = Retention(
        store, records=study.all_records, ranked=study.ranked, num_protected=protected,
        budget_bytes=space.search.checkpoint_budget_bytes,
    )  # fmt: skip
    bound = max_total_bytes(
        space, num_trials=NUM_TRIALS, num_trainings=NUM_TRIALS + 2, max_concurrent=AT_ONCE
    )
    used_bytes = []
    for stage in study.stages:
        while not stage.finished:
            attempts = [found for _ in range(AT_ONCE) if (found := stage.next_attempt())]
            for epoch in range(EPOCHS + 1):
                for found in attempts:
                    network = build_encoder(found.config.model, image_size=16)
                    momentum = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
                    state = TrainingState(
                        model=dict(network.state_dict()),
                        optimizer=momentum,
                        epoch=epoch,
                        step=0,
                        history=[],
                        cost={},
                    )
                    checkpoints = TrialCheckpoints(str(place), trial=found.name, attempt=1)
                    checkpoints.save(checkpoint_payloads(state, config=found.config), epoch=epoch)
                    stage.report(
                        found.number, 1, epoch, {"val/top1": found.config.model.projection_dim / 200}
                    )
                    used_bytes.append(sum(store.trials().values()))
            for found in attempts:
                stage.end_attempt(found.number, 1)
                retention.apply()
    assert max(used_bytes) <= bound
    assert bound < 1.6 * max(used_bytes) + space.search.checkpoint_budget_bytes
    kept = {name for name, size in store.trials().items() if size}
    assert {record.name for record in study.ranked()[:protected]} <= kept
    assert all("seed" not in name for name in kept)


@pytest.mark.parametrize(("confirm", "expected"), [("", 2), ("confirm: {top_k: 1, seeds: 2}", 1)])
def test_as_many_trials_are_protected_as_are_confirmed(tmp_path: Path, confirm: str, expected: int) -> None:
    text = SPACE.replace("confirm: {top_k: 2, seeds: 2}", confirm) if confirm else SPACE
    (tmp_path / "space.yaml").write_text(text)
    assert num_protected(load_space(tmp_path / "space.yaml"), 5) == expected
