"""Evaluation of a frozen encoder: linear probes, their ensemble, and nearest neighbours.

The encoder processes every image once per evaluation; all classifiers share these features.

Shape letters: N images (in a classifier, the training images), M evaluated images, Q a chunk of them, D
feature dimensions, C classes, K neighbours, E exits (the backbone last).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from selfcon.callbacks import Progress, ignore_progress
from selfcon.config import TrainConfig
from selfcon.data.batches import evaluation_batches
from selfcon.data.dataset import ImageDataset, Split
from selfcon.determinism import deterministic_kernels
from selfcon.distributed import gather_rows_on_first, reduce_sum, run_on_first, split_range
from selfcon.errors import NonFiniteLossError
from selfcon.evaluation.confusion import Confusion, confusion_of
from selfcon.evaluation.probe import Probes, train_probes
from selfcon.model import SelfConEncoder

# Wu et al. 2018, Unsupervised Feature Learning via Non-Parametric Instance Discrimination, section 3.4.
KNN_TEMPERATURE = 0.07
_IMAGES_AT_ONCE = 256
_QUERIES_AT_ONCE = 1024


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    `accuracies` are fractions: `val/top1` (linear probe on the backbone), `val/exit<s>_top1` (on the exit
    after stage s), `val/ensemble_top1` (the mean of all the probes' probabilities) and `val/knn_top1`;
    `test/...` for the test split. `confusion` is that of the probe on the backbone, None for more than
    `MAX_CLASSES`.
    The `probes` are on the first rank only.
    """

    accuracies: dict[str, float]
    confusion: Confusion | None
    probes: Probes | None


@deterministic_kernels()
def evaluate_encoder(
    encoder: SelfConEncoder,
    dataset: ImageDataset,
    *,
    config: TrainConfig,
    split: Literal["validation", "test"],
    progress: Progress = ignore_progress,
) -> Evaluation:
    """Evaluate the frozen features of `encoder` on one split of the data set.

    Linear probes and nearest neighbours use only the training split, without augmentation. In a process group
    every rank must call this; all get the same accuracies.

    Args:
        encoder: The encoder; its mode and parameters are not changed.
        dataset: The data set with its splits.
        config: The training configuration; `config.evaluate` has the settings of probes and neighbours.
        split: The split to evaluate; its name is the prefix of the metrics (`val/` or `test/`).
        progress: Called on all ranks with a location, after every batch and every epoch of the probes.

    Returns:
        Accuracies as fractions, the confusion matrix, and, on the first rank, the probes.

    Raises:
        NonFiniteLossError: A feature is not finite.

    Example:
        >>> import torch
        >>> from selfcon import TrainConfig, build_encoder, load_dataset
        >>> config = TrainConfig.from_flat({"data.image_size": 8, "model.width": 4})
        >>> dataset = load_dataset(config.data)
        >>> encoder = build_encoder(config.model, image_size=dataset.image_size)
        >>> evaluation = evaluate_encoder(encoder, dataset, config=config, split="validation")
        >>> sorted(evaluation.accuracies)
        ['val/ensemble_top1', 'val/exit2_top1', 'val/knn_top1', 'val/top1']
    """
    evaluated, prefix = (dataset.validation, "val") if split == "validation" else (dataset.test, "test")
    device = next(encoder.parameters()).device
    train_ND, eval_MD = (
        _features_of(encoder, dataset, part, progress=progress) for part in (dataset.train, evaluated)
    )
    # Summed over ranks, so that all ranks raise.
    if _num_not_finite((*train_ND, *eval_MD)):
        raise NonFiniteLossError(f"features of the {split} split: infinite, or too large to be squared")
    # Only where they are used: those of a million images fill a device.
    train_ND, eval_MD = ([gather_rows_on_first(x) for x in features] for features in (train_ND, eval_MD))

    num_classes, probes = len(dataset.class_names), list[Probes]()

    def classify(progress: Progress) -> tuple[dict[str, float], Confusion | None]:
        labels_N, labels_M = (part.labels_N.to(device) for part in (dataset.train, evaluated))
        trained = _probes_on(train_ND, dataset, config=config, progress=progress)
        probes.append(trained)  # not sent to other ranks, as they are large
        predictions = predict_classes(
            trained,
            train_ND,
            labels_N,
            eval_MD,
            exit_stages=encoder.exit_stages,
            num_neighbours=config.evaluate.knn_neighbours,
        )
        accuracies = {f"{prefix}/{name}": _accuracy(found, labels_M) for name, found in predictions.items()}
        return accuracies, confusion_of(predictions["top1"], labels_M, num_classes=num_classes)

    # Computed on one rank, so that differences between machines cannot make ranks disagree.
    accuracies, confusion = run_on_first(classify, progress=progress)
    return Evaluation(accuracies, confusion, probes[0] if probes else None)


@deterministic_kernels()
def probes_of(encoder: SelfConEncoder, dataset: ImageDataset, *, config: TrainConfig) -> Probes:
    """Return the probes of `evaluate_encoder`, in one process. They use only the training split."""
    return _probes_on(_features_of(encoder, dataset, dataset.train), dataset, config=config)


def _features_of(
    encoder: SelfConEncoder, dataset: ImageDataset, part: Split, *, progress: Progress = ignore_progress
) -> list[Tensor]:
    """Features of a part of a data set, on the device and in the precision of the encoder."""
    parameter = next(encoder.parameters())
    return extract_features(
        encoder,
        part,
        batch_size=_IMAGES_AT_ONCE,
        mean=dataset.mean,
        std=dataset.std,
        device=parameter.device,
        dtype=parameter.dtype,
        progress=progress,
    )


def _probes_on(
    train_ND: Sequence[Tensor],
    dataset: ImageDataset,
    *,
    config: TrainConfig,
    progress: Progress = ignore_progress,
) -> Probes:
    """Probes of the exits, trained on the features of all ranks of the training split."""
    return train_probes(
        train_ND,
        dataset.train.labels_N.to(train_ND[0].device),
        evaluate=config.evaluate,
        num_classes=len(dataset.class_names),
        seed=config.seed,
        progress=progress,
    )


@torch.no_grad()
def extract_features(
    encoder: SelfConEncoder,
    split: Split,
    *,
    batch_size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    device: torch.device,
    dtype: torch.dtype,
    progress: Progress = ignore_progress,
) -> list[Tensor]:
    """Return the features (N, D) of the images of `split` at each exit, the backbone's last.

    Without augmentation, in the order of the split, in evaluation mode; the mode of the encoder is restored.
    In a process group each rank encodes and returns its contiguous share. `progress` is called after every
    batch.
    """
    share = split_range(len(split))
    was_training = encoder.training
    encoder.eval()
    images = evaluation_batches(
        split, share, batch_size=batch_size, mean=mean, std=std, device=device, dtype=dtype
    )
    batches = []
    for images_BCHW in images:
        batches.append(encoder.features(images_BCHW))
        progress(f"features, batch {len(batches)}")
    encoder.train(was_training)
    return [torch.cat(features) for features in zip(*batches, strict=True)]


def predict_classes(
    probes: Probes,
    train_ND: Sequence[Tensor],
    labels_N: Tensor,
    eval_MD: Sequence[Tensor],
    *,
    exit_stages: tuple[int, ...],
    num_neighbours: int,
) -> dict[str, Tensor]:
    """Return the predicted classes (M,) of each classifier: the probes, and the nearest training features.

    The keys are `exit<s>_top1` and `top1` (the probes), `ensemble_top1` (their mean probability) and
    `knn_top1`. Ties go to the lower class.
    """
    probabilities_EMC = probes.probabilities(eval_MD)
    names = [*(f"exit{stage}_top1" for stage in exit_stages), "top1"]
    return {
        **dict(zip(names, probabilities_EMC.argmax(dim=2), strict=True)),
        "ensemble_top1": probabilities_EMC.mean(dim=0).argmax(dim=1),
        "knn_top1": predict_by_neighbours(train_ND[-1], labels_N, eval_MD[-1], num_neighbours=num_neighbours),
    }


def predict_by_neighbours(
    train_ND: Tensor, labels_N: Tensor, eval_MD: Tensor, *, num_neighbours: int
) -> Tensor:
    """Return the class (M,) with the most votes of the nearest training images; ties go to the lower class.

    The `num_neighbours` (at most N) with the highest cosine similarity s vote for their class with the weight
    exp(s / 0.07): weighted kNN of Wu et al. 2018, section 3.4.
    """
    train_ND = functional.normalize(train_ND, dim=1)
    num_neighbours = min(num_neighbours, len(train_ND))
    num_classes = int(labels_N.max()) + 1
    predictions = []
    for eval_QD in functional.normalize(eval_MD, dim=1).split(_QUERIES_AT_ONCE):
        similarity_QK, neighbour_QK = (eval_QD @ train_ND.T).topk(num_neighbours, dim=1)
        weight_QK = (similarity_QK / KNN_TEMPERATURE).exp()
        # A sum over K instead of a scatter: its order, and thus its last bit, is fixed on every device.
        vote_QKC = functional.one_hot(labels_N[neighbour_QK], num_classes).to(weight_QK.dtype)
        predictions.append((weight_QK[:, :, None] * vote_QKC).sum(dim=1).argmax(dim=1))
    return torch.cat(predictions)


def _num_not_finite(features: Sequence[Tensor]) -> int:
    """Number of features over all ranks that are not finite, or too large to be squared."""
    bad = sum((~x_ND.square().isfinite()).sum() for x_ND in features)
    return int(reduce_sum(torch.as_tensor(bad)))


def _accuracy(found_M: Tensor, labels_M: Tensor) -> float:
    return (found_M == labels_M).double().mean().item()
