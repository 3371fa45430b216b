"""Training, validation and test splits: stratified, a function of labels and a seed only.

Shape letters: N images.
"""

import torch
from torch import Tensor

from selfcon.config import DataConfig
from selfcon.data.draws import Stream, uniform
from selfcon.data.source import Part, Source
from selfcon.errors import ConfigError

# The seed of a test split that a data set does not have: fixed, so that no setting moves an image into or out
# of it.
TEST_FRACTION = 0.2
TEST_SEED = 20230207


def divide(source: Source, data_config: DataConfig) -> tuple[dict[Part, Tensor], dict[str, float]]:
    """Return the sorted indices of each split, int64, and the parameters of the split.

    Predefined splits are kept. Missing test and validation splits, in this order, are taken from the training
    split. Raises `ConfigError` if a class has too few images.
    """
    members = {part: torch.arange(numbers.start, numbers.stop) for part, numbers in source.given.items()}
    _check_class_sizes(source)
    decided: dict[str, float] = {}
    missing: tuple[tuple[Part, float, int], ...] = (
        ("test", TEST_FRACTION, TEST_SEED),
        ("validation", data_config.validation_fraction, data_config.split_seed),
    )
    for part, fraction, seed in missing:
        if part not in members:
            rest = members["train"]
            stay, off = stratified(source.labels_N[rest], fraction=fraction, seed=seed)
            members["train"], members[part] = rest[stay], rest[off]
            name = "split" if part == "validation" else part
            decided |= {f"{part}_fraction": fraction, f"{name}_seed": seed}
    return members, decided


def _check_class_sizes(source: Source) -> None:
    """Each class needs one image for training and one for each split taken from it."""
    absent = [part for part in ("validation", "test") if part not in source.given]
    given = source.given["train"]
    labels_N = source.labels_N[given.start : given.stop]
    counts = torch.bincount(labels_N, minlength=len(source.class_names)).tolist()
    needed = 1 + len(absent)
    for name, count in zip(source.class_names, counts, strict=True):
        if not count >= needed:
            purpose = f", one for each of {', '.join(['training', *absent])}" if absent else ""
            expected = f"at least {needed} training images of each class{purpose}"
            raise ConfigError("data.root", expected, f"{count} of {name}")


def stratified(labels_N: Tensor, *, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return the remaining indices and those of the new split, both sorted, int64.

    The new split gets the rounded `fraction` of each class, at least one image, and leaves at least one. With
    the same seed, a larger fraction is a superset. Each class must have two images.
    """
    keys_N = uniform(seed, 0, torch.arange(len(labels_N)), view=0, stream=Stream.SPLIT, count=1)[:, 0]
    off_N = torch.zeros(len(labels_N), dtype=torch.bool)
    for label in labels_N.unique().tolist():
        members = (labels_N == label).nonzero()[:, 0]
        assert len(members) > 1, f"one image of class {label}"
        num_off = min(max(round(fraction * len(members)), 1), len(members) - 1)
        off_N[members[keys_N[members].argsort()[:num_off]]] = True
    return (~off_N).nonzero()[:, 0], off_N.nonzero()[:, 0]
