import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from selfcon.config import TrainConfig
from selfcon.data.dataset import ImageDataset, Split, load_dataset
from selfcon.errors import NonFiniteLossError
from selfcon.evaluation.evaluate import (
    evaluate_encoder,
    extract_features,
    predict_by_neighbours,
    predict_classes,
)
from selfcon.evaluation.probe import train_probes
from selfcon.model import SelfConEncoder, build_encoder

CONFIG = TrainConfig.from_flat(
    {
        "data.image_size": 8,
        "data.validation_fraction": 0.2,
        "model.width": 4,
        "model.exit_stages": [1, 3],
        "evaluate.probe_epochs": 10,
        "evaluate.probe_batch_size": 128,
    }
)


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return load_dataset(CONFIG.data)


@pytest.fixture
def encoder() -> SelfConEncoder:
    torch.manual_seed(0)
    return build_encoder(CONFIG.model, image_size=8)


def features_of(
    encoder: SelfConEncoder, dataset: ImageDataset, split: Split, *, batch_size: int = 256
) -> list[Tensor]:
    return extract_features(
        encoder,
        split,
        batch_size=batch_size,
        mean=dataset.mean,
        std=dataset.std,
        device=torch.device("cpu"),
        dtype=next(encoder.parameters()).dtype,
    )


def test_features_equal_the_encoder_in_evaluation_mode(
    encoder: SelfConEncoder, dataset: ImageDataset
) -> None:
    encoder.double()
    found = features_of(encoder, dataset, dataset.validation, batch_size=100)
    mean_3, std_3 = (torch.tensor(numbers, dtype=torch.float64) for numbers in (dataset.mean, dataset.std))
    (images_NCHW,) = dataset.validation.plain([torch.arange(len(dataset.validation))])
    pixels = images_NCHW.double() / 255
    with torch.no_grad():
        expected = encoder.eval().features((pixels - mean_3[:, None, None]) / std_3[:, None, None])
    assert [x_ND.shape for x_ND in found] == [(len(dataset.validation), encoder.feature_dim)] * 3
    for found_ND, expected_ND in zip(found, expected, strict=True):
        torch.testing.assert_close(found_ND, expected_ND, atol=1e-10, rtol=1e-10)


def test_extracting_features_does_not_change_the_encoder(
    encoder: SelfConEncoder, dataset: ImageDataset
) -> None:
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    features_of(encoder.train(), dataset, dataset.validation)
    assert encoder.training
    features_of(encoder.eval(), dataset, dataset.validation)
    assert not encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_features_have_no_gradient(encoder: SelfConEncoder, dataset: ImageDataset) -> None:
    assert not any(x_ND.requires_grad for x_ND in features_of(encoder, dataset, dataset.validation))


@pytest.mark.parametrize(("split", "prefix"), [("validation", "val"), ("test", "test")])
def test_every_accuracy_is_a_fraction(
    encoder: SelfConEncoder, dataset: ImageDataset, split: str, prefix: str
) -> None:
    metrics = evaluate_encoder(encoder, dataset, config=CONFIG, split=split).accuracies  # type: ignore[arg-type]
    classifiers = ("exit1_top1", "exit3_top1", "top1", "ensemble_top1", "knn_top1")
    assert list(metrics) == [f"{prefix}/{classifier}" for classifier in classifiers]
    # Ten classes: even an untrained network is far above chance, and none is perfect on unseen digits.
    assert all(0.3 < value < 1 for value in metrics.values())


def test_ensemble_of_an_encoder_without_exits_equals_the_backbone(dataset: ImageDataset) -> None:
    torch.manual_seed(0)
    model = CONFIG.model.model_copy(update={"exit_stages": ()})
    encoder = build_encoder(model, image_size=8)
    metrics = evaluate_encoder(encoder, dataset, config=CONFIG, split="validation").accuracies
    assert list(metrics) == ["val/top1", "val/ensemble_top1", "val/knn_top1"]
    assert metrics["val/ensemble_top1"] == metrics["val/top1"]


def test_equal_encoders_have_equal_accuracies(encoder: SelfConEncoder, dataset: ImageDataset) -> None:
    first, again = (evaluate_encoder(encoder, dataset, config=CONFIG, split="validation") for _ in range(2))
    assert first.accuracies == again.accuracies
    assert first.confusion == again.confusion


def test_accuracies_are_the_fractions_of_correct_predictions(
    encoder: SelfConEncoder, dataset: ImageDataset
) -> None:
    evaluation = evaluate_encoder(encoder, dataset, config=CONFIG, split="test")
    metrics, confusion = evaluation.accuracies, evaluation.confusion
    train_ND, test_MD = (features_of(encoder, dataset, part) for part in (dataset.train, dataset.test))
    probes = train_probes(
        train_ND, dataset.train.labels_N, evaluate=CONFIG.evaluate, num_classes=10, seed=CONFIG.seed
    )
    right_EM = probes.logits(test_MD).argmax(dim=2) == dataset.test.labels_N
    names = ["test/exit1_top1", "test/exit3_top1", "test/top1"]
    expected = [int(right_M.sum()) / len(dataset.test) for right_M in right_EM]
    assert [metrics[name] for name in names] == pytest.approx(expected, abs=1e-12)
    assert confusion is not None
    assert sum(confusion.correct) == int(right_EM[-1].sum())
    assert evaluation.probes is not None
    assert torch.equal(evaluation.probes.weights, probes.weights)


@pytest.mark.parametrize("weight", [math.nan, math.inf, 1e30])
def test_diverged_encoder_is_rejected(encoder: SelfConEncoder, dataset: ImageDataset, weight: float) -> None:
    last = list(encoder.backbone.parameters())[-1]
    torch.nn.init.constant_(last, weight)
    with pytest.raises(NonFiniteLossError, match="features of the validation split: infinite, or too large"):
        evaluate_encoder(encoder, dataset, config=CONFIG, split="validation")


def test_ensemble_uses_the_mean_probability_not_the_majority() -> None:
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.arange(200) % 2
    signal_N1 = (2.0 * labels_N - 1)[:, None]
    vague_ND = 0.1 * signal_N1 + torch.randn(200, 2, generator=generator)
    sure_ND = 5.0 * signal_N1 + torch.randn(200, 2, generator=generator)
    eval_MD = [torch.tensor([[-0.4, -0.4]]), torch.tensor([[-0.4, -0.4]]), torch.tensor([[5.0, 5.0]])]
    features_ND = [vague_ND, vague_ND, sure_ND]
    probes = train_probes(features_ND, labels_N, evaluate=CONFIG.evaluate, num_classes=2, seed=0)
    predictions = predict_classes(
        probes, features_ND, labels_N, eval_MD, exit_stages=(1, 2), num_neighbours=5
    )
    votes = [predictions[name].item() for name in ("exit1_top1", "exit2_top1", "top1", "ensemble_top1")]
    assert votes == [0, 0, 1, 1]


def slow_neighbours(train_ND: Tensor, labels_N: Tensor, query_D: Tensor, num_neighbours: int) -> int:
    """Wu et al. 2018, section 3.4: the nearest vote with weight exp(cosine / 0.07)."""
    cosines = [float(functional.cosine_similarity(row_D, query_D, dim=0)) for row_D in train_ND]
    nearest = sorted(range(len(cosines)), key=lambda row: -cosines[row])[:num_neighbours]
    votes: dict[int, float] = defaultdict(float)
    for row in nearest:
        votes[int(labels_N[row])] += math.exp(cosines[row] / 0.07)
    return min(votes, key=lambda label: (-votes[label], label))


@pytest.mark.parametrize("num_neighbours", [1, 5, 20, 1000])
def test_neighbours_vote_as_in_wu_et_al(num_neighbours: int) -> None:
    generator = torch.Generator().manual_seed(num_neighbours)
    train_ND = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    labels_N = torch.randint(4, (60,), generator=generator)
    query_MD = torch.randn(25, 5, generator=generator, dtype=torch.float64)
    found_M = predict_by_neighbours(train_ND, labels_N, query_MD, num_neighbours=num_neighbours)
    assert found_M.tolist() == [
        slow_neighbours(train_ND, labels_N, row_D, num_neighbours) for row_D in query_MD
    ]


def test_neighbours_depend_only_on_directions() -> None:
    train_ND, labels_N = torch.eye(3), torch.tensor([2, 1, 0])
    query_MD = torch.tensor([[9.0, 1.0, 0.0], [0.0, 0.1, 0.2]])
    predictions_M = predict_by_neighbours(100 * train_ND, labels_N, query_MD, num_neighbours=1)
    assert predictions_M.tolist() == [2, 0]


def test_a_tie_between_neighbours_goes_to_the_lower_class() -> None:
    train_ND = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    labels_N = torch.tensor([3, 1, 1, 3])
    predictions_M = predict_by_neighbours(train_ND, labels_N, torch.tensor([[1.0, 1.0]]), num_neighbours=4)
    assert predictions_M.tolist() == [1]
