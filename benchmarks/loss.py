"""Time and memory of the loss, compared with an implementation with rows x rows tensors.

128 dimensions, 2 exits, 10 images per class, forward and backward. Memory is the peak above the inputs.
Prints a line for each number of images:

    .venv/bin/python benchmarks/loss.py

Shape letters: B images = R rows, E exits with the backbone last, D dimensions, A = R x E anchors.
"""

import statistics
from collections.abc import Callable

import torch
from measure import alternating_seconds, peak_megabytes, spread
from torch import Tensor
from torch.nn import functional

from selfcon.losses.contrastive import selfcon_loss

NUM_EXITS, DIM, IMAGES_PER_CLASS = 2, 128, 10
TEMPERATURE, BASE_TEMPERATURE = 0.1, 0.07
REPEATS = 5


def mask_form(z_RED: Tensor, labels_B: Tensor) -> Tensor:
    """Return the same loss in the usual implementation.

    Mask, logits, exponentials and log-probabilities are separate rows x rows tensors, as in the authors' code
    (github.com/raymin0223/self-contrastive-learning, commit 5e7c2c5).
    """
    z_AD = torch.cat(z_RED.unbind(dim=1))
    labels_A = labels_B.to(z_AD.device).repeat(z_RED.shape[1])
    others_AA = 1 - torch.eye(len(z_AD), device=z_AD.device)
    positives_AA = (labels_A[:, None] == labels_A).float() * others_AA
    logits_AA = z_AD @ z_AD.T / TEMPERATURE
    logits_AA = logits_AA - logits_AA.max(dim=1, keepdim=True).values.detach()
    exponentials_AA = logits_AA.exp() * others_AA
    log_probabilities_AA = logits_AA - exponentials_AA.sum(dim=1, keepdim=True).log()
    losses_A = -(positives_AA * log_probabilities_AA).sum(dim=1) / positives_AA.sum(dim=1)
    return losses_A.mean() * TEMPERATURE / BASE_TEMPERATURE


def chunked_form(z_RED: Tensor, labels_B: Tensor) -> Tensor:
    """Return the loss of this project."""
    return selfcon_loss(z_RED, labels_B, temperature=TEMPERATURE, base_temperature=BASE_TEMPERATURE)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ours": chunked_form, "mask form": mask_form}


def prepare(form: str, num_images: int) -> Callable[[], Tensor]:
    """Return a function that computes the loss and its gradient on prepared inputs."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    labels_B = torch.arange(num_images) % max(1, num_images // IMAGES_PER_CLASS)
    z_RED = functional.normalize(torch.randn(num_images, NUM_EXITS, DIM), dim=2).requires_grad_()
    # Warm up: the first product and backward pass of a process are slow.
    _loss_with_gradient(FORMS[form], z_RED[:8].detach().requires_grad_(), labels_B[:8] % 2)
    return lambda: _loss_with_gradient(FORMS[form], z_RED, labels_B)


def _loss_with_gradient(form: Callable[[Tensor, Tensor], Tensor], z_RED: Tensor, labels_B: Tensor) -> Tensor:
    loss = form(z_RED, labels_B)
    torch.autograd.grad(loss, z_RED)
    return loss.detach()


def main() -> None:
    """Measure both implementations: repeated up to 4096 images, once at 8192."""
    for num_images in (1024, 4096, 8192):
        runs = {form: prepare(form, num_images) for form in FORMS}
        torch.testing.assert_close(runs["ours"](), runs["mask form"](), rtol=1e-5, atol=0)
        seconds = alternating_seconds(runs, repeats=REPEATS if num_images < 8192 else 1)
        memory = {form: peak_megabytes(prepare, form, num_images) for form in FORMS}
        for form in FORMS:
            print(f"{num_images} images, {form}: {spread(seconds[form])} s, {memory[form]:.0f} MB")
        time = statistics.median(seconds["ours"]) / statistics.median(seconds["mask form"])
        share = memory["ours"] / memory["mask form"]
        print(f"{num_images} images, ours / mask form: time {time:.2f}, memory {share:.3f}")


if __name__ == "__main__":
    main()
