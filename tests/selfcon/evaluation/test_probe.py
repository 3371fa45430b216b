import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from selfcon.config import EvaluateConfig
from selfcon.data.draws import permutation
from selfcon.evaluation.probe import Probes, train_probes

PROTOCOL = EvaluateConfig(probe_epochs=100, probe_batch_size=128, probe_learning_rate=3.0)


def blobs(num_images: int, *, dim: int, num_classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return overlapping classes with different means and scales of dimensions, like network features."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.randint(num_classes, (num_images,), generator=generator)
    centres_CD = torch.randn(
        num_classes, dim, generator=torch.Generator().manual_seed(99), dtype=torch.float64
    )
    noise_ND = torch.randn(num_images, dim, generator=generator, dtype=torch.float64)
    scales_D = torch.logspace(-2, 2, dim, dtype=torch.float64)
    return (centres_CD[labels_N] + 0.7 * noise_ND) * scales_D + 3 * scales_D, labels_N


def trained(
    features_ND: list[Tensor], labels_N: Tensor, evaluate: EvaluateConfig, *, seed: int = 0
) -> Probes:
    return train_probes(
        features_ND, labels_N, evaluate=evaluate, num_classes=int(labels_N.max()) + 1, seed=seed
    )


def slow_probe(x_ND: Tensor, labels_N: Tensor, evaluate: EvaluateConfig, *, seed: int) -> nn.Linear:
    """The protocol with the layer, loss, optimiser and schedule of torch."""
    layer = nn.Linear(x_ND.shape[1], int(labels_N.max()) + 1, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=evaluate.probe_learning_rate, momentum=0.9)
    milestones = [int(0.6 * evaluate.probe_epochs), int(0.8 * evaluate.probe_epochs)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    for epoch in range(evaluate.probe_epochs):
        for batch_B in permutation(seed, epoch, len(x_ND)).split(evaluate.probe_batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(layer(x_ND[batch_B]), labels_N[batch_B]).backward()
            optimizer.step()
        schedule.step()
    return layer


def test_probe_equals_training_with_torch_on_conditioned_features() -> None:
    x_ND, labels_N = blobs(90, dim=6)
    evaluate = EvaluateConfig(probe_epochs=20, probe_batch_size=32, probe_learning_rate=2.0)
    standard_ND = torch.from_numpy(StandardScaler().fit_transform(x_ND.numpy()))
    covariance_DD = torch.cov(standard_ND.T, correction=0)
    conditioned_ND = standard_ND / torch.linalg.matrix_norm(covariance_DD, ord=2).sqrt()
    expected_NC = slow_probe(conditioned_ND, labels_N, evaluate, seed=3)(conditioned_ND)
    logits_ENC = trained([x_ND], labels_N, evaluate, seed=3).logits([x_ND])
    torch.testing.assert_close(logits_ENC[0], expected_NC.detach(), atol=1e-9, rtol=0)


def test_training_exits_together_equals_training_them_separately() -> None:
    first_ND, labels_N = blobs(100, dim=8)
    second_ND = first_ND.flip(1).square()
    together = trained([first_ND, second_ND], labels_N, PROTOCOL)
    alone = [trained([x_ND], labels_N, PROTOCOL) for x_ND in (first_ND, second_ND)]
    torch.testing.assert_close(together.weights, torch.cat([probe.weights for probe in alone]))
    torch.testing.assert_close(together.biases, torch.cat([probe.biases for probe in alone]))


def test_probes_have_one_linear_layer_per_exit() -> None:
    x_ND, labels_N = blobs(60, dim=8)
    probes = trained([x_ND, -x_ND], labels_N, PROTOCOL)
    assert probes.weights.shape == (2, 5, 8)
    assert probes.biases.shape == (2, 5)
    expected_NC = x_ND @ probes.weights[0].T + probes.biases[0]
    torch.testing.assert_close(probes.logits([x_ND, -x_ND])[0], expected_NC)
    torch.testing.assert_close(probes.probabilities([x_ND, -x_ND]).sum(dim=2), x_ND.new_ones(2, 60))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_features_give_bit_identical_probes(dtype: torch.dtype) -> None:
    x_ND, labels_N = blobs(150, dim=8)
    first, again = (trained([x_ND.to(dtype)], labels_N, PROTOCOL) for _ in range(2))
    assert first.weights.dtype == dtype
    assert torch.equal(first.weights, again.weights)
    assert torch.equal(first.biases, again.biases)


def test_probes_are_invariant_to_scale_and_offset_of_features() -> None:
    x_ND, labels_N = blobs(120, dim=8)
    factors_D = torch.logspace(3, -3, 8, dtype=torch.float64)
    logits_ENC = trained([x_ND], labels_N, PROTOCOL).logits([x_ND])
    other_ND = x_ND * factors_D - 7
    torch.testing.assert_close(trained([other_ND], labels_N, PROTOCOL).logits([other_ND]), logits_ENC)


@pytest.mark.parametrize("learning_rate", [0.3, 3.0, 7.0])
def test_training_is_stable_on_nearly_collinear_features(learning_rate: float) -> None:
    x_ND, labels_N = blobs(300, dim=16)
    common_N1 = 100 * torch.randn(300, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    evaluate = EvaluateConfig(probe_learning_rate=learning_rate)
    features_ND = [x_ND / x_ND.std(dim=0) + common_N1]
    logits_ENC = trained(features_ND, labels_N, evaluate).logits(features_ND)
    # The loss of an untrained probe is log(5) = 1.61, that of a diverged one in the hundreds.
    assert nn.functional.cross_entropy(logits_ENC[0], labels_N) < 1.61


def test_constant_channels_have_weight_zero() -> None:
    x_ND, labels_N = blobs(80, dim=6)
    x_ND[:, 2] = 0.0
    x_ND[:, 4] = 12345.678
    probes = trained([x_ND.float()], labels_N, PROTOCOL)
    assert (probes.weights[:, :, [2, 4]] == 0).all()
    assert (probes.weights[:, :, [0, 1, 3, 5]] != 0).all()


def test_constant_features_give_the_class_frequencies() -> None:
    labels_N = torch.tensor([0] * 30 + [1] * 60 + [2] * 10)
    features_ND = [torch.ones(100, 4, dtype=torch.float64)]
    probabilities_ENC = trained(features_ND, labels_N, PROTOCOL).probabilities(features_ND)
    expected_C = torch.tensor([0.3, 0.6, 0.1], dtype=torch.float64)
    torch.testing.assert_close(probabilities_ENC[0, 0], expected_C, atol=1e-2, rtol=0)


def digits_split() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    digits = load_digits()
    order_N = torch.randperm(len(digits.data), generator=torch.Generator().manual_seed(1))
    x_ND, labels_N = torch.from_numpy(digits.data).float()[order_N], torch.from_numpy(digits.target)[order_N]
    return x_ND[:1200], labels_N[:1200], x_ND[1200:], labels_N[1200:]


def test_probe_is_as_accurate_as_logistic_regression() -> None:
    train_ND, labels_N, held_out_MD, labels_M = digits_split()
    scaler = StandardScaler().fit(train_ND)
    regression = LogisticRegression(max_iter=1000).fit(scaler.transform(train_ND), labels_N)
    reference = regression.score(scaler.transform(held_out_MD), labels_M)
    logits_EMC = trained([train_ND], labels_N, PROTOCOL).logits([held_out_MD])
    assert (logits_EMC[0].argmax(dim=1) == labels_M).double().mean() >= reference - 0.01


def test_order_of_images_hardly_changes_a_probe() -> None:
    train_ND, labels_N, held_out_MD, labels_M = digits_split()
    probes = [trained([train_ND], labels_N, PROTOCOL, seed=seed) for seed in range(5)]
    accuracies = [
        float((p.logits([held_out_MD])[0].argmax(dim=1) == labels_M).double().mean()) for p in probes
    ]
    assert not torch.equal(probes[0].weights, probes[1].weights)
    assert max(accuracies) - min(accuracies) <= 0.01
