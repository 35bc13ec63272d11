"""A study's encoder at its first state."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from polyward_client.trainer.encoders.basicunet import UNetPyramid
from polyward_client.trainer.encoders.custom import custom
from polyward_client.trainer.encoders.initial import initialise
from polyward_client.trainer.encoders.norms import put_in_place
from polyward_client.trainer.encoders.resnet import ResNetPyramid
from polyward_client.trainer.encoders.segres import segres
from polyward_client.trainer.encoders.swin import swin
from polyward_client.trainer.encoders.vit import ViTPyramid
from polyward_shared.encoders import BasicUNet, Custom, ResNet, SegRes, Swin, ViT
from polyward_shared.problems import Problem
from polyward_shared.schema import ENCODER
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study


def build_encoder(study: Study, allowed: Collection[str] = (), *, name: str = ENCODER) -> nn.Module:
    """The study's encoder, equal at every site; called with images [batch, channels, *spatial], it returns the pyramid.

    `allowed` are the paths of encoders of one's own that the site permits. An encoder of another `name` is of the same
    kind and starts with other values. Raises `Problem`.
    """
    try:
        module = _constructed(study, allowed)
    except ValueError as error:  # torch and MONAI raise it for numbers that do not fit each other
        raise Problem("encoder", f"cannot be built: {error}", remedy="choose widths that groups divide") from error
    if getattr(study.encoder, "norm", "group") == "batch":
        put_in_place(module, len(study.image.size))
    initialise(module, seed_for(study.seed, name), raw=True)
    return module


def _constructed(study: Study, allowed: Collection[str]) -> nn.Module:
    encoder, image = study.encoder, study.image
    match encoder:
        case SegRes():
            return segres(encoder, image)
        case BasicUNet():
            return UNetPyramid(encoder, image)
        case ResNet():
            return ResNetPyramid(encoder, image)
        case Swin():
            return swin(encoder, image)
        case ViT():
            return ViTPyramid(encoder, image)
        case Custom():
            return custom(encoder, image, allowed)
