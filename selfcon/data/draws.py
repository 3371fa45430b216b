"""Counter-based random numbers: hashes of their keys, without generator state.

Every draw is a pure function of (seed, epoch, sample index, view, stream) in integer arithmetic:
bit-identical on every device, in every batch, for every number of workers and after a resume.

Shape letters: N samples, K draws per sample.
"""

from enum import IntEnum

import torch
from torch import Tensor

# SplitMix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014, with the
# published code's constants): the increment of its counter, and the shifts and factors of its finaliser.
_GAMMA = 0x9E3779B97F4A7C15
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)
_MASK = 2**64 - 1


class Stream(IntEnum):
    """Purpose of the draws of a sample. Numbers never change, because a training depends on them."""

    ORDER = -1
    CROP_SHAPE = 0
    CROP_PLACE = 1
    FLIP = 2
    JITTER = 3
    JITTER_FACTORS = 4
    JITTER_ORDER = 5
    GREY = 6
    SPLIT = 7
    DISTORTION = 8


def uniform(seed: int, epoch: int, indices_N: Tensor, *, view: int, stream: int, count: int) -> Tensor:
    """Return `count` numbers for each sample, uniform in [0, 1), float64 of shape (N, K).

    They are multiples of 2^-53, on the device of `indices_N` (integers). The first numbers do not depend on
    `count`. The seed is taken modulo 2^64.
    """
    bits_NK = _hash(seed, epoch, indices_N, view=view, stream=stream, count=count)
    return _shift_right(bits_NK, 11).to(torch.float64) * 2.0**-53


def permutation(seed: int, epoch: int, num_samples: int) -> Tensor:
    """Return the order of the samples in an epoch: each of 0 to N - 1 once, int64 of shape (N,).

    Samples are sorted by their hashes, which are distinct, because for a fixed key the hash is a bijection of
    indices.
    """
    bits_N1 = _hash(seed, epoch, torch.arange(num_samples), view=0, stream=Stream.ORDER, count=1)
    return bits_N1[:, 0].argsort()


def _hash(seed: int, epoch: int, indices_N: Tensor, *, view: int, stream: int, count: int) -> Tensor:
    """64 well-mixed bits for each (sample, draw): one round of SplitMix64 for each word of the counter."""
    state = 0
    for word in (seed, epoch, view, stream):
        state = _mix(state ^ ((word + 1) * _GAMMA & _MASK))
    bits_N = _mix_tensor(indices_N.to(torch.int64) * _signed(_GAMMA) ^ _signed(state))
    draws_K = torch.arange(1, count + 1, device=indices_N.device) * _signed(_GAMMA)
    return _mix_tensor(bits_N[:, None] + draws_K)


def _mix(value: int) -> int:
    """SplitMix64's finaliser on one unsigned 64-bit integer."""
    for shift, factor in zip(_SHIFTS, (*_FACTORS, 1), strict=True):
        value = (value ^ value >> shift) * factor & _MASK
    return value


def _mix_tensor(values: Tensor) -> Tensor:
    """The same finaliser on int64, whose products wrap like unsigned ones."""
    for shift, factor in zip(_SHIFTS, (*_FACTORS, 1), strict=True):
        values = (values ^ _shift_right(values, shift)) * _signed(factor)
    return values


def _shift_right(values: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's shift is arithmetic."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
