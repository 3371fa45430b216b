"""Registry of backbones by name."""

from collections.abc import Callable, Mapping

from selfcon.model.architecture import Architecture, BackboneOptions
from selfcon.model.convnext import CONVNEXTS, convnext
from selfcon.model.efficientnet import EFFICIENTNETS, efficientnet
from selfcon.model.regnet import REGNETS, regnet
from selfcon.model.resnet import RESNETS, resnet
from selfcon.model.vgg import VGGS, vgg
from selfcon.model.wide_resnet import WIDE_RESNETS, wide_resnet

BACKBONES: Mapping[str, Callable[[BackboneOptions], Architecture]] = {
    **dict.fromkeys(RESNETS, resnet),
    **dict.fromkeys(WIDE_RESNETS, wide_resnet),
    **dict.fromkeys(VGGS, vgg),
    **dict.fromkeys(EFFICIENTNETS, efficientnet),
    **dict.fromkeys(CONVNEXTS, convnext),
    **dict.fromkeys(REGNETS, regnet),
}
