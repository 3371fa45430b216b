"""Stratified splits that depend on labels and a seed, and on nothing else.

Shape letters: N images.
"""

import torch
from torch import Tensor

from selfcon.data.draws import Stream, uniform
from selfcon.errors import ConfigError


def stratified(labels_N: Tensor, *, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return the indices that stay and those split off, both rising, int64.

    Of each class the rounded `fraction` of its images is split off, but at least one, and one stays. A larger
    fraction of the same images by the same seed splits off the same ones and more.

    Raises `ConfigError` for a class with a single image.
    """
    keys_N = uniform(seed, 0, torch.arange(len(labels_N)), view=0, stream=Stream.SPLIT, count=1)[:, 0]
    off_N = torch.zeros(len(labels_N), dtype=torch.bool)
    for label in labels_N.unique().tolist():
        members = (labels_N == label).nonzero()[:, 0]
        if not len(members) > 1:
            expected = "two images or more of each class, so that it can be split"
            raise ConfigError("data.dataset", expected, f"one image of class {label}")
        num_off = min(max(round(fraction * len(members)), 1), len(members) - 1)
        off_N[members[keys_N[members].argsort()[:num_off]]] = True
    return (~off_N).nonzero()[:, 0], off_N.nonzero()[:, 0]
