"""Networks of torchvision, as references."""

from typing import Any

import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

# Replacements of the layers between the maps of the last stage and the features.
WITHOUT_CLASSIFIER: dict[str, dict[str, nn.Module]] = {
    "resnet18": {"fc": nn.Identity()},
    "resnet50": {"fc": nn.Identity()},
    "vgg13_bn": {"avgpool": nn.AdaptiveAvgPool2d(1), "classifier": nn.Identity()},
    "vgg16_bn": {"avgpool": nn.AdaptiveAvgPool2d(1), "classifier": nn.Identity()},
    "efficientnet_b0": {"classifier": nn.Identity()},
    "convnext_tiny": {"classifier.2": nn.Identity()},
    "regnet_y_400mf": {"fc": nn.Identity()},
}

# Replacements that keep the resolution of images of up to 64 pixels.
SMALL_STEMS: dict[str, dict[str, nn.Module]] = {
    "resnet18": {"conv1": nn.Conv2d(3, 64, 3, padding=1, bias=False), "maxpool": nn.Identity()},
    "vgg16_bn": {},
    "efficientnet_b0": {
        "features.0.0": nn.Conv2d(3, 32, 3, padding=1, bias=False),
        "features.2.0.block.1.0": nn.Conv2d(96, 96, 3, padding=1, groups=96, bias=False),
    },
    "convnext_tiny": {"features.0.0": nn.Conv2d(3, 96, 3, padding=1)},
    "regnet_y_400mf": {
        "stem.0": nn.Conv2d(3, 32, 3, padding=1, bias=False),
        "trunk_output.block1.block1-0.proj.0": nn.Conv2d(32, 48, 1, bias=False),
        "trunk_output.block1.block1-0.f.b.0": nn.Conv2d(48, 48, 3, padding=1, groups=6, bias=False),
    },
}


def as_if_trained(network: nn.Module, images_RCHW: torch.Tensor) -> None:
    """Give a new network random scales, shifts and biases, and the statistics of a batch.

    Otherwise some parts would have no effect on the features: blocks of a ConvNeXt are initially scaled by
    1e-6, and with other statistics the activations of an EfficientNet vanish.
    """
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.squeeze().ndim < 2:
                parameter.add_(0.3 * torch.randn_like(parameter))
        for layer in network.modules():
            if isinstance(layer, _BatchNorm):
                layer.momentum = 1.0
        network.train()(images_RCHW)
    network.eval()


def random_network(name: str) -> Any:
    """Return a network with all layers, as if it had been trained.

    The classifier of a VGG, with 120 million weights, is replaced by a small one.
    """
    network = torchvision.models.get_model(name, weights=None, num_classes=3)
    if name.startswith("vgg"):
        network.avgpool, network.classifier = nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Linear(512, 3))
    as_if_trained(network, torch.randn(4, 3, 64, 64))
    return network


def twin_of(name: str, state: dict[str, torch.Tensor], *, small_stem: bool = False) -> Any:
    """Return the plain network with `state` and without its classifier, in evaluation mode."""
    network = torchvision.models.get_model(name, weights=None)
    changes = WITHOUT_CLASSIFIER[name] | (SMALL_STEMS[name] if small_stem else {})
    for place, layer in changes.items():
        network.set_submodule(place, layer)
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval()
