"""Encoder for pixels: maps images to features of an exit, or to class logits of its probes.

Shape letters: N images, C = 3 channels, H height, W width, D feature dimensions, E exits (the backbone last),
K classes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from selfcon.data.augment import normalise
from selfcon.errors import ConfigError
from selfcon.evaluation.probe import Probes
from selfcon.model import SelfConEncoder


class PixelEncoder(nn.Module):
    """Maps images to features: normalisation, network, and one of its exits. Always in evaluation mode.

    `exit_stage` is the stage of the exit, None the backbone. With `probes`, one for each exit, it also
    predicts `class_names`. Raises `ConfigError` for a stage without an exit.
    """

    def __init__(
        self,
        encoder: SelfConEncoder,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        exit_stage: int | None = None,
        probes: Probes | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.feature_dim = encoder.feature_dim
        self.mean, self.std = mean, std
        self.class_names = tuple(class_names)
        self._exit = _exit_index(encoder.exit_stages, exit_stage)
        # Not persistent, so that the state dict is that of the network.
        self.register_buffer("_weights_EKD", None if probes is None else probes.weights, persistent=False)
        self.register_buffer("_biases_EK", None if probes is None else probes.biases, persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> "PixelEncoder":
        """Stay in evaluation mode, so that features do not depend on the other images of a batch."""
        del mode
        super().train(False)
        return self

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return the features (N, D) in float32 of images (N, 3, H, W): float32 in [0, 1], or uint8.

        Any N, H and W; the accuracy at other sizes is that of the network. Raises `ConfigError` for another
        shape or dtype.
        """
        return self._features(images_NCHW)[self._exit].float()

    @torch.no_grad()
    def ensemble_logits(self, images_NCHW: Tensor) -> Tensor:
        """Return logits (N, K) over `class_names`: the log of the mean of all probes' probabilities.

            log( 1/E sum_e softmax(W_e f_e + b_e) )

        The metrics `val/ensemble_top1` and `test/ensemble_top1` use the largest. Images as in `forward`.
        Raises `ConfigError` for an encoder without probes.
        """
        weights_EKD, biases_EK = self._weights_EKD, self._biases_EK
        if not (isinstance(weights_EKD, Tensor) and isinstance(biases_EK, Tensor)):
            raise ConfigError("ensemble_logits", "an encoder that was saved with its probes", "one without")
        features_ND = [x_ND.float() for x_ND in self._features(images_NCHW)]
        log_ENK = Probes(weights_EKD, biases_EK).logits(features_ND).log_softmax(dim=2)
        return log_ENK.logsumexp(dim=0) - math.log(len(log_ENK))

    def _features(self, images_NCHW: Tensor) -> list[Tensor]:
        pixels = _pixels(images_NCHW).to(next(self.encoder.parameters()).dtype)
        return self.encoder.features(normalise(pixels, mean=self.mean, std=self.std))


def _exit_index(exit_stages: tuple[int, ...], exit_stage: int | None) -> int:
    if exit_stage is None:
        return -1  # the backbone is last
    if exit_stage not in exit_stages:
        valid = ", ".join(map(str, exit_stages))
        expected = f"one of the stages with an exit ({valid})" if valid else "none, as there is no exit"
        raise ConfigError("exit_stage", expected, repr(exit_stage))
    return exit_stages.index(exit_stage)


def _pixels(images_NCHW: Tensor) -> Tensor:
    if images_NCHW.ndim != 4 or images_NCHW.shape[1] != 3:
        raise ConfigError("images", "shape (N, 3, H, W)", str(tuple(images_NCHW.shape)))
    if images_NCHW.dtype == torch.uint8:
        return images_NCHW.float() / 255
    if images_NCHW.dtype != torch.float32:
        raise ConfigError(
            "images", "float32 in [0, 1] or uint8", str(images_NCHW.dtype).removeprefix("torch.")
        )
    return images_NCHW
