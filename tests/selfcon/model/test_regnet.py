import torch
from torch import nn
from torchvision.models.regnet import BlockParams

from selfcon.config import ModelConfig
from selfcon.model import build_encoder
from selfcon.model.regnet import REGNETS


def test_stages_follow_from_the_parameters_of_the_paper() -> None:
    expected = BlockParams.from_init_params(depth=16, w_0=48, w_a=27.89, w_m=2.09, group_width=8)
    design = REGNETS["regnet_y_400mf"]
    assert list(design.num_blocks) == expected.depths
    assert list(design.num_channels) == expected.widths
    assert {design.group_width} == set(expected.group_widths)


def test_channels_of_a_narrow_network_are_multiples_of_the_group_width() -> None:
    with torch.device("meta"):
        encoder = build_encoder(ModelConfig(backbone="regnet_y_400mf", width=16), image_size=32)
    grouped = [
        layer for layer in encoder.backbone.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1
    ]
    # A quarter of 48, 104, 208, 440 is 12, 26, 52, 110; halves are rounded up.
    assert [layer.out_channels for layer in grouped] == [16] + 3 * [24] + 6 * [56] + 6 * [112]
    assert {layer.out_channels // layer.groups for layer in grouped} == {8}
