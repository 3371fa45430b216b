"""Read the trials of a search: python examples/read_study.py runs/smoke/study.db

The study is an Optuna study, so Optuna's functions work on it. `tune_jobs.study.records` adds what a search
stores in addition: every epoch, the reason why a trial ended, the complete configuration. Reading does not
disturb a running search. The URL of a database works too.
"""

import sys

import optuna

from tune_jobs.study.records import TrialRecord, record_of
from tune_jobs.wording import counted, shown_parameters


def main(place: str) -> None:
    """Print every study of a database, its trials as a table, and its best trial."""
    storage = place if "://" in place else f"sqlite:///{place}"
    for name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        records = [record_of(trial) for trial in study.get_trials()]
        print(f"{name}: {counted(len(records), 'trial')}")
        print(f"{'trial':>5}  {'state':8}  {'reason':10}  {'epochs':>6}  {'val/top1':>8}  parameters")
        for record in records:
            print(row(record))
        if len(study.directions) == 1 and any(record.value is not None for record in records):
            print(f"best: trial {study.best_trial.number} with {study.best_value:.4f}")


def row(record: TrialRecord) -> str:
    """Return one line of the table, with the newest accuracy and the searched parameters."""
    _, newest = max(record.series("val/top1"), default=(0, float("nan")))
    reason, epochs, parameters = record.reason or "", record.last_epoch, shown_parameters(record.parameters)
    return f"{record.number:5}  {record.state:8}  {reason:10}  {epochs:6}  {newest:8.4f}  {parameters}"


if __name__ == "__main__":
    main(*sys.argv[1:])
