"""Wilson score intervals of accuracies."""

import math

# The 97.5 % quantile of the normal distribution: two-sided 95 %.
Z_95 = 1.959963984540054


def wilson_half_width(top1: float, num_images: int) -> float:
    """Return half the width of the 95 % Wilson score interval of an accuracy measured on `num_images` images.

        z / (1 + z^2/n) * sqrt(p (1 - p) / n + z^2 / (4 n^2))

    Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference. Unlike the normal
    interval, its width is not zero at accuracies of 0 and 1. Raises `ValueError` for an accuracy outside
    [0, 1] or for no images.
    """
    if not (0 <= top1 <= 1 and num_images >= 1):
        raise ValueError(f"expected an accuracy in [0, 1] of at least one image, got {top1} of {num_images}")
    z_squared = Z_95**2
    spread = math.sqrt(top1 * (1 - top1) / num_images + z_squared / (4 * num_images**2))
    return Z_95 / (1 + z_squared / num_images) * spread


def wilson_interval(top1: float, num_images: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of an accuracy measured on `num_images` images.

    Its centre is (p + z^2/(2n)) / (1 + z^2/n). See `wilson_half_width` for the formula and the errors.
    """
    half, z_squared = wilson_half_width(top1, num_images), Z_95**2
    middle = (top1 + z_squared / (2 * num_images)) / (1 + z_squared / num_images)
    return max(0.0, middle - half), min(1.0, middle + half)
