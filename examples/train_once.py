"""Train one encoder in this process, without Ray: python examples/train_once.py [FOLDER]

Prints a line for each epoch, then saves the encoder in FOLDER (encoder/) and loads it again. Takes about ten
seconds on two CPUs.
"""

import sys
from pathlib import Path

import torch

from selfcon.config import TrainConfig
from selfcon.data.dataset import load_dataset
from selfcon.evaluation.evaluate import evaluate_encoder
from selfcon.export import load_encoder, save_encoder
from selfcon.train import EpochReport, fit

CONFIG = TrainConfig.from_mapping(
    {
        "data": {"dataset": "digits", "image_size": 16, "augmentation": "none"},
        "model": {"backbone": "resnet18", "width": 8, "exit_stages": [2]},
        "optim": {"epochs": 4, "warmup_epochs": 1, "global_batch_size": 64, "learning_rate": 0.05},
    }
)


def main(folder: str = "encoder") -> None:
    """Train an encoder, evaluate it on the test images, save it and load it."""
    dataset = load_dataset(CONFIG.data)
    result = fit(CONFIG, report=show)
    evaluation = evaluate_encoder(result.encoder, dataset, config=CONFIG, split="test")
    print("test images:", *(f"{name} {value:.4f}" for name, value in evaluation.accuracies.items()), sep="  ")
    metrics = result.metrics | evaluation.accuracies
    save_encoder(
        Path(folder),
        encoder=result.encoder,
        config=CONFIG,
        dataset=dataset,
        metrics=metrics,
        probes=evaluation.probes,
    )
    encoder = load_encoder(folder)
    (images,) = dataset.test.plain([torch.arange(5)])  # uint8, (N, 3, height, width)
    predicted = [encoder.class_names[index] for index in encoder.ensemble_logits(images).argmax(dim=1)]
    print(f"saved in {folder}: features {tuple(encoder(images).shape)}, first predictions {predicted}")


def show(report: EpochReport) -> None:
    """Print an epoch; `report.save(folder)` would write a checkpoint for `fit(resume_from=)`."""
    loss = f"  loss {report.metrics['train/loss']:.3f}" if report.epoch else "  untrained"
    print(f"epoch {report.epoch}  val/top1 {report.metrics['val/top1']:.4f}{loss}")


if __name__ == "__main__":
    main(*sys.argv[1:])
