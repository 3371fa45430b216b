"""The digits: 1,797 real images of 8 x 8 pixels in 10 classes, embedded in scikit-learn.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
"""

from pathlib import Path

import torch

from selfcon.data.source import ArraySource

_BRIGHTEST = 16  # a pixel counts the marks in a cell of 4 x 4


def read_digits(_root: Path) -> ArraySource:
    """Return the images, with the grey repeated in each channel; no folder is read."""
    # Here, because it takes a second and not everything that knows data sets reads this one.
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    grey_N1HW = torch.from_numpy(pixels).reshape(-1, 1, 8, 8).mul(255 / _BRIGHTEST).round().to(torch.uint8)
    return ArraySource(
        labels_N=torch.from_numpy(labels).to(torch.int64),
        class_names=tuple("0123456789"),
        given={"train": range(len(labels))},
        image_size=8,
        images_NCHW=grey_N1HW.repeat(1, 3, 1, 1),
    )
