"""A search opened by one launcher: its study, its MLflow runs, and the checked inputs of both."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from selfcon.data.dataset import ImageDataset
from tune_jobs.commands.launcher import Launcher, launcher
from tune_jobs.commands.readiness import CheckedSearch
from tune_jobs.options import LaunchOptions
from tune_jobs.provenance import commit_of_source, environment_tags, shown_commit
from tune_jobs.report.files import report_files, write_files
from tune_jobs.report.text import print_result, summary
from tune_jobs.space import SearchSpace
from tune_jobs.study.search_study import SearchStudy
from tune_jobs.terminal.streams import UserConsole
from tune_jobs.tracking.follower import TrackingFollower
from tune_jobs.tracking.runs import TrackedDataset
from tune_jobs.tracking.tracker import Tracker
from tune_jobs.wording import printable


@dataclass(frozen=True, kw_only=True)
class Search:
    """One launch of a search: its checked input, its stored state, and its MLflow runs."""

    checked: CheckedSearch
    launcher: Launcher
    study: SearchStudy
    tracker: Tracker
    follower: TrackingFollower

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.checked.space

    @property
    def options(self) -> LaunchOptions:
        """The flags of this launch."""
        return self.checked.options

    @property
    def folder(self) -> Path:
        """The folder of the search."""
        return self.checked.folder

    @property
    def console(self) -> UserConsole:
        """Where lines for the user are printed."""
        return self.launcher.console

    def print_result(self) -> None:
        """Print the result of the search, or its state so far."""
        print_result(
            self.console,
            self.study.snapshot(),
            self.folder,
            tracking=self.tracker.where,
            options=self.options,
        )

    def write_files(self) -> None:
        """Write report.html, best.yaml and trials.csv; print one line per file that cannot be written."""
        for line in write_files(self.folder, report_files(self.study.snapshot())):
            self.console.write_line(line)

    def close_tracking(
        self, status: Literal["FINISHED", "KILLED", "FAILED"], metrics: dict[str, float] | None = None
    ) -> None:
        """End the MLflow run of the search; with status KILLED, no files are uploaded yet."""
        snapshot = self.study.snapshot()
        text, files = summary(snapshot), {}
        if status != "KILLED":
            files = {"report.md": text.encode(), **report_files(snapshot)}
        self.tracker.close(status, metrics=metrics or {}, summary=text, files=files)

    def suspend_tracking(self) -> None:
        """Send the recorded metrics and end the MLflow runs; the next launch reopens them."""
        self.follower.finish(with_files=False)
        self.close_tracking("KILLED")


@contextmanager
def open_search(checked: CheckedSearch) -> Iterator[Search]:
    """Lock a search whose checks have passed, and open its study. Raises what `launcher` raises."""
    space, options = checked.space, checked.options
    connect_first = checked.is_first_launch and options.address is not None
    with launcher(space, options, folder=checked.folder, connect_first=connect_first) as held:
        study = SearchStudy(held.database, space, data_digest=checked.dataset.digest)
        study.set_num_trials(options.num_trials or space.search.num_trials)
        tracker = _tracker(checked)
        follower = TrackingFollower(tracker, records=study.all_records, remember_run=study.remember_run_of)
        search = Search(checked=checked, launcher=held, study=study, tracker=tracker, follower=follower)
        held.on_cluster_lost.close_first(search.suspend_tracking)
        yield search


def record_launch(search: Search) -> None:
    """Record the environment of this launch, and print a line if the code changed since the last launch."""
    study, dataset, commit = search.study, search.checked.dataset, commit_of_source()
    before = study.snapshot().launches
    study.record_launch(
        data={
            "name": dataset.name,
            "num_images": dataset.num_images,
            "num_classes": len(dataset.class_names),
        },
        environment=environment_tags(),
        commit=commit,
    )
    if before and before[-1].commit != commit:
        was, now = (shown_commit(each) for each in (before[-1].commit, commit))
        search.console.write_line(f"note: the code is at {now}; the previous launch ran {was}")


def add_warm_start(search: Search) -> None:
    """Add the best trials of the search that `start_from` names, once, as the first trials to run."""
    points = search.checked.warm_start
    if points is not None and not search.study.has_warm_start:
        search.study.add_warm_start(points)
        search.console.write_line(f"tried first: the best {len(points)} of {search.space.start_from}")


def _tracker(checked: CheckedSearch) -> Tracker:
    space, commit = checked.space, commit_of_source()
    return Tracker(
        uri=checked.tracking_uri,
        experiment=space.tracking.experiment,
        experiment_id=checked.tracking_experiment,
        search=space.name,
        description=space.description,
        tags={
            "mlflow.source.name": "launch.py",
            **({"mlflow.source.git.commit": commit} if commit else {}),
            **environment_tags(),
        },
        metric=space.objective.metric,
        dataset=_tracked_dataset(checked.dataset, root=space.data.root),
    )


def _tracked_dataset(dataset: ImageDataset, *, root: str) -> TrackedDataset:
    return TrackedDataset(
        name=dataset.name,
        digest=dataset.digest,
        source=dataset.name if dataset.name == "digits" else str(Path(root).resolve()),
        class_names=tuple(map(printable, dataset.class_names)),
        profile={
            **{f"num_{name}": count for name, count in dataset.num_images.items()},
            "num_classes": len(dataset.class_names),
            "image_size": dataset.image_size,
        },
    )
