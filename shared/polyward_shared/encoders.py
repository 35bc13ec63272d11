"""The kinds of shared encoders: what a study may choose. Every kind turns an image into a pyramid of features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from polyward_shared.reading import Frozen, formed

Positive = Annotated[int, Field(gt=0)]
Digest = Annotated[str, formed(r"[0-9a-f]{64}", "a digest of 64 hexadecimal digits")]
DottedPath = Annotated[str, formed(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", "package.module:Class")]


class _Encoder(Frozen, ABC):
    groups: int = Field(default=4, ge=1)  # of the group norms, also in the branches
    start: Literal["seed"] | Digest = "seed"  # or the digest of an encoder in the hub's registry

    @property
    @abstractmethod
    def divisor(self) -> int:
        """Every side of the image is a multiple of it."""


class _Convolutional(_Encoder, ABC):
    norm: Literal["group", "batch"] = "group"  # batch norm depends on who is in a batch; its statistics are the site's


class SegRes(_Convolutional):
    """Residual blocks (Myronenko, arXiv 1810.11654). One entry of `blocks` per level; every level halves the image."""

    kind: Literal["segres"] = "segres"
    filters: int = Field(default=16, ge=4, le=256)  # of the first level; doubled on every other
    blocks: tuple[Positive, ...] = Field(default=(1, 2, 2, 4), min_length=2, max_length=6)

    @property
    def divisor(self) -> int:
        return 1 << (len(self.blocks) - 1)


class BasicUNet(_Convolutional):
    """The contracting half of a U-Net (Ronneberger et al., arXiv 1505.04597)."""

    kind: Literal["basicunet"]
    widths: tuple[Positive, ...] = Field(default=(16, 32, 64, 128), min_length=2, max_length=6)

    @property
    def divisor(self) -> int:
        return 1 << (len(self.widths) - 1)


class ResNet(_Convolutional):
    """Residual network features (He et al., arXiv 1512.03385), with group norm; strides 2 to 32."""

    kind: Literal["resnet"]
    depth: Literal[10, 18, 34, 50] = 18

    @property
    def divisor(self) -> int:
        return 32


class Swin(_Encoder):
    """Shifted windows of attention (Liu et al., arXiv 2103.14030); strides 2 to 32."""

    kind: Literal["swin"]
    width: int = Field(default=24, ge=12, le=192)
    depths: tuple[Positive, Positive, Positive, Positive] = (2, 2, 2, 2)
    heads: tuple[Positive, Positive, Positive, Positive] = (3, 6, 12, 24)
    window: int = Field(default=4, ge=2, le=16)

    @property
    def divisor(self) -> int:
        return 32


class ViT(_Encoder):
    """A vision transformer (Dosovitskiy et al., arXiv 2010.11929) with a simple pyramid neck (arXiv 2203.16527)."""

    kind: Literal["vit"]
    width: int = Field(default=96, ge=16, le=1280)
    layers: int = Field(default=4, ge=1, le=32)
    heads: int = Field(default=4, ge=1, le=32)
    patch: Literal[4, 8, 16] = 8

    @property
    def divisor(self) -> int:
        return 2 * self.patch  # the coarsest level of the neck halves the patches


class Custom(_Encoder):
    """An encoder of one's own, installed at every site and named in the sites' policies."""

    kind: Literal["custom"]
    path: DottedPath
    options: dict[str, int | float | str | bool] = Field(default_factory=dict)  # given to the class by name

    @property
    def divisor(self) -> int:
        return 1  # unknown here; building it at a site tells


def _kind(value: Any) -> str:
    """A table without `kind` is the default's; what is no table has none."""
    return str(value.get("kind", "segres") if isinstance(value, dict) else getattr(value, "kind", ""))


Encoder = Annotated[
    Annotated[SegRes, Tag("segres")]
    | Annotated[BasicUNet, Tag("basicunet")]
    | Annotated[ResNet, Tag("resnet")]
    | Annotated[Swin, Tag("swin")]
    | Annotated[ViT, Tag("vit")]
    | Annotated[Custom, Tag("custom")],
    Discriminator(_kind),
]
