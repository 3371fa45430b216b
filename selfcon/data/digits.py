"""The digits: 1,797 real images of 8 x 8 pixels in 10 classes, embedded in scikit-learn.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
"""

import torch
from torch import Tensor

CLASS_NAMES = tuple("0123456789")
# The test part is the same for ever: no setting may move an image into it or out of it.
TEST_FRACTION = 0.2
TEST_SEED = 20230207

_BRIGHTEST = 16  # a pixel counts the marks in a cell of 4 x 4


def read_digits() -> tuple[Tensor, Tensor]:
    """Return the images, uint8 (1797, 3, 8, 8) with the grey repeated, and the labels, int64 (1797,)."""
    # Here, because it takes a second and not everything that knows data sets reads this one.
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    grey_N1HW = torch.from_numpy(pixels).reshape(-1, 1, 8, 8).mul(255 / _BRIGHTEST).round().to(torch.uint8)
    return grey_N1HW.repeat(1, 3, 1, 1), torch.from_numpy(labels).to(torch.int64)
