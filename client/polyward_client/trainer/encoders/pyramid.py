"""What an encoder returns and which of its parameters learn, found out by running it once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from polyward_client.trainer.encoders.build import build_encoder
from polyward_shared.encoders import Custom
from polyward_shared.problems import Problem
from polyward_shared.study import Image, Study


@dataclass(frozen=True)
class Pyramid:
    """The form of an encoder's features, finest level first: level i is [batch, channels[i], *spatial / strides[i]]."""

    channels: tuple[int, ...]  # of the private encoder too, where there is one
    strides: tuple[int, ...]
    dims: int  # spatial dimensions: 2 or 3
    used: frozenset[str]  # names of the encoder's parameters that receive a gradient; the others never travel


def pyramid_of(study: Study, allowed: Collection[str] = ()) -> Pyramid:
    """The pyramid that branches see; `allowed` as in `build_encoder`. Equal at every site. Raises `Problem`.

    Beside a private encoder of the same kind, every level has its channels twice.
    """
    return _probed(study.canonical(), frozenset(allowed))


@lru_cache(maxsize=32)
def _probed(canonical: str, allowed: frozenset[str]) -> Pyramid:
    study = Study.model_validate_json(canonical)
    # whether a probe was remembered must not change what is drawn later
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        study = small_study(study)
        encoder, image = build_encoder(study, allowed).eval(), _image(study)
        pyramid = _formed(encoder, image, study)
        if isinstance(study.encoder, Custom):
            _compare(encoder, build_encoder(study, allowed).eval(), image, study, study.encoder.path)
        return pyramid


def small_study(study: Study) -> Study:
    """The same study on smaller images: in our own kinds neither widths, strides nor names depend on the size.

    With an encoder of one's own, of which that is not known, the study itself.
    """
    if isinstance(study.encoder, Custom):
        return study
    size = tuple(min(side, 2 * study.encoder.divisor) for side in study.image.seen)
    return study.model_copy(update={"image": Image(channels=study.image.channels, size=size)})


def _image(study: Study) -> Tensor:
    drawn = np.random.default_rng(0).random((1, study.image.channels, *study.image.seen), np.float32)
    return torch.from_numpy(drawn)


def _formed(encoder: nn.Module, image: Tensor, study: Study) -> Pyramid:
    levels = _levels(encoder, image, study)
    strides = tuple(_stride(level, image, number) for number, level in enumerate(levels, 1))
    if any(fine >= coarse for fine, coarse in pairwise(strides)):
        raise Problem("encoder", f"its levels have the strides {list(strides)}", expected="the finest level first")
    channels = tuple(level.shape[1] for level in levels)
    if unfit := [width for width in channels if width % study.encoder.groups]:
        raise Problem("encoder.groups", f"found {study.encoder.groups}", expected=f"a divisor of {unfit[0]} channels")
    if not any(level.requires_grad for level in levels):
        raise Problem("encoder", "no parameter of it can learn")
    torch.autograd.backward([level.sum() for level in levels if level.requires_grad])
    used = frozenset(name for name, parameter in encoder.named_parameters() if parameter.grad is not None)
    encoders = 2 if study.sharing.private_encoder else 1
    return Pyramid(tuple(encoders * width for width in channels), strides, image.ndim - 2, used)


def _levels(encoder: nn.Module, image: Tensor, study: Study) -> list[Tensor]:
    try:
        levels = encoder(image)
    except Exception as error:  # a stranger's code may raise anything; ours ValueError for an image that is too small
        said = f"{type(error).__name__}: {error}"
        found = f"fails on an image of {study.image.channels} channels and size {list(study.image.seen)} ({said})"
        raise Problem("encoder", found) from error
    if not isinstance(levels, list) or not levels or not all(isinstance(level, Tensor) for level in levels):
        raise Problem("encoder", f"returns {_described(levels)}", expected="a list of tensors, the finest level first")
    return levels


def _stride(level: Tensor, image: Tensor, number: int) -> int:
    """The power of two that divides every side of the image into the level's."""
    for stride in (1 << halvings for halvings in range(min(image.shape[2:]).bit_length())):
        if level.shape[:1] == (1,) and [side * stride for side in level.shape[2:]] == list(image.shape[2:]):
            return stride
    raise Problem(
        "encoder",
        f"level {number} has the shape {list(level.shape)} for images {list(image.shape)}",
        expected="[batch, channels, *spatial], each side of the image divided by the same power of two",
    )


@torch.no_grad()
def _compare(one: nn.Module, two: nn.Module, image: Tensor, study: Study, path: str) -> None:
    """Raises `Problem` unless two encoders, built under different states of torch's generator, answer alike.

    In training too: what they draw there, nothing seeds.
    """
    for training in (False, True):
        first, second = (_levels(encoder.train(training), image, study) for encoder in (one, two))
        if len(first) != len(second) or not all(map(torch.equal, first, second)):
            raise Problem(
                "encoder.path",
                f"{path} is not the same whenever it is built, or answers the same image differently"
                f"{' in training' if training else ''}",
                expected="a first state and an answer that follow from the study alone",
                remedy="keep random numbers out of what is no parameter, dropout included",
            )


def _described(levels: object) -> str:
    if isinstance(levels, list | tuple):
        return f"a {type(levels).__name__} of {', '.join(type(each).__name__ for each in levels) or 'nothing'}"
    return f"a {type(levels).__name__}"
