"""The digits: 1,797 real images of 8 x 8 pixels in 10 classes, embedded in scikit-learn.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
"""

from pathlib import Path

import torch

from selfcon.data.source import ArraySource

_MAX_LEVEL = 16  # a pixel is the number of set bits in a cell of 4 x 4


def read_digits(_root: Path) -> ArraySource:
    """Return the digits, with the grey level repeated in each channel; reads no folder."""
    # Imported here, because it takes a second and other data sets do not need it.
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    grey_N1HW = torch.from_numpy(pixels).reshape(-1, 1, 8, 8).mul(255 / _MAX_LEVEL).round().to(torch.uint8)
    return ArraySource(
        labels_N=torch.from_numpy(labels).to(torch.int64),
        class_names=tuple("0123456789"),
        given={"train": range(len(labels))},
        image_size=8,
        images_NCHW=grey_N1HW.repeat(1, 3, 1, 1),
    )
