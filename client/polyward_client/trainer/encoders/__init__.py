"""The shared encoder: images [batch, channels, *spatial] -> a pyramid of features, a list with the finest level first.

Every kind starts equal at every site, holds no state besides its parameters and what batch norms have seen, runs at any
batch size and has no activation in place, for several branches read the same features.
"""

from __future__ import annotations

from polyward_client.trainer.encoders.build import build_encoder
from polyward_client.trainer.encoders.initial import initialise
from polyward_client.trainer.encoders.pyramid import Pyramid, pyramid_of, small_study

__all__ = ["Pyramid", "build_encoder", "initialise", "pyramid_of", "small_study"]
