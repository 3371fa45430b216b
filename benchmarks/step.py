"""Time and memory of a training step: SelfCon compared with SupCon, and with plain torchvision code.

A step is forward, loss, backward and optimiser step on images in memory. Memory is the peak above network,
optimiser and images. Prints medians, ranges and ratios:

    .venv/bin/python benchmarks/step.py

SelfCon uses one view of each image and SupCon two, with the same backbone, batch size and data. The paper
reports 0.48 of the time and 0.59 of the memory for ResNet-50 at 224 pixels on GPUs. If there is a GPU, this
setting is measured.
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from loss import mask_form
from measure import alternating_seconds, peak_megabytes, spread
from torch import nn
from torch.nn import functional

from selfcon.config import TrainConfig
from selfcon.data.batches import epoch_batches
from selfcon.determinism import deterministic_kernels
from selfcon.run import Run, start_run
from selfcon.train import train_step

ON_CPUS: dict[str, dict[str, Any]] = {
    "resnet18 at 32 pixels, batch 64": {
        "model.backbone": "resnet18",
        "data.image_size": 32,
        "optim.global_batch_size": 64,
    },
    "resnet50 at 96 pixels, batch 16": {
        "model.backbone": "resnet50",
        "data.image_size": 96,
        "optim.global_batch_size": 16,
    },
}
_IMAGENET = {"model.backbone": "resnet50", "data.image_size": 224, "optim.global_batch_size": 128}
ON_A_GPU: dict[str, dict[str, Any]] = {
    "resnet50 at 224 pixels, batch 128, fp32": _IMAGENET,
    "resnet50 at 224 pixels, batch 128, bf16 and channels last": _IMAGENET
    | {"optim.precision": "bf16", "runtime.channels_last": True},
}
HAS_GPU = torch.cuda.is_available()
SETTINGS = ON_A_GPU if HAS_GPU else ON_CPUS
METHODS: dict[str, dict[str, Any]] = {
    "SupCon": {"model.exit_stages": [], "data.num_views": 2},
    "SelfCon, fc after stage 2": {"model.exit_stages": [2], "model.exit_depth": "fc"},
    "SelfCon, same after stage 2": {"model.exit_stages": [2], "model.exit_depth": "same"},
}
ONE_VIEW = ON_CPUS["resnet18 at 32 pixels, batch 64"] | {"model.exit_stages": []}
REPEATS = 7
FINISHED: Callable[[], object] = torch.cuda.synchronize if HAS_GPU else lambda: None


def started(changes: dict[str, Any]) -> tuple[Run, torch.Tensor, torch.Tensor]:
    """Return a run on the digits, in training mode, with its first batch."""
    config = TrainConfig.from_flat({"data.augmentation": "weak"} | changes)
    run = start_run(config)
    batches = epoch_batches(run.dataset, config=config, epoch=0, device=run.device, dtype=run.dtype)
    images_RCHW, labels_B = next(iter(batches))
    run.network.train()
    return run, images_RCHW, labels_B


def prepare(changes: dict[str, Any]) -> Callable[[], float]:
    """Return a training step as a function, with the deterministic kernels of `fit`."""
    return deterministic_kernels()(prepare_default_kernels(changes))


def prepare_default_kernels(changes: dict[str, Any]) -> Callable[[], float]:
    """Return a training step as a function, with the default kernels of torch."""
    run, images_RCHW, labels_B = started(changes)
    return lambda: train_step(run, images_RCHW, labels_B, place="benchmark")


def prepare_plain() -> Callable[[], None]:
    """Return the same step as ONE_VIEW in plain torchvision code, as a function."""
    from torchvision.models import resnet18

    run, images_RCHW, labels_B = started(ONE_VIEW)
    optim = run.config.optim
    network = resnet18(weights=None)
    network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    network.maxpool = nn.Identity()
    head = [nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, 128)]
    network.fc = nn.Sequential(*head)
    network.to(run.device)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=optim.learning_rate, momentum=optim.momentum, weight_decay=optim.weight_decay
    )

    def step() -> None:
        z_RED = functional.normalize(network(images_RCHW), dim=1)[:, None]
        loss = mask_form(z_RED, labels_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return deterministic_kernels()(step)


def compare_methods(name: str) -> None:
    """Print time and memory of a step of each method, and their ratio to SupCon."""
    changes = {method: SETTINGS[name] | settings for method, settings in METHODS.items()}
    seconds = alternating_seconds(
        {key: prepare(value) for key, value in changes.items()}, repeats=REPEATS, finished=FINISHED
    )
    megabytes = {method: peak_megabytes(prepare, value, on_gpu=HAS_GPU) for method, value in changes.items()}
    supcon_seconds = statistics.median(seconds["SupCon"])
    for method in METHODS:
        time = statistics.median(seconds[method]) / supcon_seconds
        memory = megabytes[method] / megabytes["SupCon"]
        print(f"{name}, {method}: {spread(seconds[method])} s, {megabytes[method]:.0f} MB", end="; ")
        print(f"relative to SupCon: time {time:.2f}, memory {memory:.2f}", flush=True)


def compare_kernels(name: str) -> None:
    """Print the time of a step on a GPU with deterministic and with default kernels."""
    changes = SETTINGS[name] | METHODS["SelfCon, fc after stage 2"]
    steps = {"deterministic": prepare(changes), "default": prepare_default_kernels(changes)}
    seconds = alternating_seconds(steps, repeats=3 * REPEATS, finished=FINISHED)
    for kind, values in seconds.items():
        print(f"{name}, SelfCon, fc after stage 2, {kind} kernels: {spread(values)} s")
    print(
        f"ratio: {statistics.median(seconds['deterministic']) / statistics.median(seconds['default']):.3f}",
        flush=True,
    )


def compare_with_plain_code() -> None:
    """Print the time of the same step here and in plain torchvision code."""
    steps = {"ours": prepare(ONE_VIEW), "plain": prepare_plain()}
    seconds = alternating_seconds(steps, repeats=3 * REPEATS, finished=FINISHED)
    for kind, values in seconds.items():
        print(f"resnet18 at 32 pixels, batch 64, one view, {kind}: {spread(values)} s")
    print(f"ratio: {statistics.median(seconds['ours']) / statistics.median(seconds['plain']):.3f}")


if __name__ == "__main__":
    compare_with_plain_code()
    for setting in SETTINGS:
        compare_methods(setting)
        if HAS_GPU:
            compare_kernels(setting)
