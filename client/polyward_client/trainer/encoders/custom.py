"""An encoder of one's own: a class that is installed at the site and that the site's policy names."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from polyward_client.trainer.encoders.entries import COUNTER, STATISTICS
from polyward_shared.encoders import Custom
from polyward_shared.problems import Problem
from polyward_shared.study import Image

WHERE = "encoder.path"


def custom(encoder: Custom, image: Image, allowed: Collection[str]) -> nn.Module:
    """The class called with the study's options, `in_channels` and `spatial_dims`. Raises `Problem`.

    Nothing is imported unless the site allows this very path: a study chooses among installed code, it brings none.
    """
    if encoder.path not in allowed:
        raise Problem(
            WHERE,
            f"{encoder.path} is not among the encoders that this site allows",
            expected=f"one of {', '.join(sorted(allowed))}" if allowed else "",
            remedy="read its code, then name it in the site's policy; or approve another study",
        )
    module = _called(_class(encoder.path), encoder, image)
    _check_state(module, encoder.path)
    _check_dropout(module, encoder.path)
    _hide_aliases(module)
    return module


def _class(path: str) -> type[nn.Module]:
    package, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(package), name)
    except Exception as error:  # a module's import runs its code, which may raise anything
        remedy = "install the package that holds it in the trainer's environment"
        raise Problem(WHERE, f"{path} cannot be imported ({_said(error)})", remedy=remedy) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise Problem(WHERE, f"{path} is no torch module", expected="a class that inherits torch.nn.Module")
    return found


def _called(kind: type[nn.Module], encoder: Custom, image: Image) -> nn.Module:
    try:
        return kind(**encoder.options, in_channels=image.channels, spatial_dims=len(image.size))
    except Exception as error:  # a stranger's constructor may raise anything
        raise Problem(
            WHERE,
            f"{encoder.path} cannot be built ({_said(error)})",
            expected="a class that takes encoder.options, in_channels and spatial_dims by name",
        ) from error


def _check_state(module: nn.Module, path: str) -> None:
    """Parameters in float32 and what batch norms have seen: of anything else nobody knows whether it should cross."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    known = parameters.keys() | {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules(remove_duplicate=False)
        if isinstance(part, _BatchNorm)
        for name in (*STATISTICS, COUNTER)
    }
    if kept := [name for name in module.state_dict() if name not in known]:
        raise Problem(
            WHERE,
            f"{path} keeps the buffer {kept[0]}, which is no parameter and would differ between sites",
            expected="no persistent buffers but those of batch norms",
            remedy="register constants with persistent=False",
        )
    for name, parameter in parameters.items():
        if str(parameter.dtype) != "torch.float32":
            raise Problem(WHERE, f"{path} has {name} in {parameter.dtype}", expected="torch.float32")


def _check_dropout(module: nn.Module, path: str) -> None:
    """None: it would draw from torch's global generator, and the same order would not give the same bytes."""
    for name, layer in module.named_modules():
        share = layer.p if isinstance(layer, _DropoutNd) else getattr(layer, "dropout", 0)
        if isinstance(share, int | float) and share > 0:
            raise Problem(
                WHERE,
                f"{path} has dropout of {share} in {name or 'itself'}, drawn from numbers that no study seeds",
                expected="no dropout in an encoder",
                remedy="set its dropout to 0; branches.dropout of the study drops features before the heads",
            )


def _hide_aliases(module: nn.Module) -> None:
    """A parameter or buffer with two names keeps the first alone, so that no state holds it twice.

    Otherwise the second name would pass for an array of the site's own, and loading it would undo what was received.
    """
    first = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    every = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    aliases = [name for name, _ in every if name not in first]
    if not aliases:
        return

    def drop(_module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Mapping[str, Any]) -> None:
        for name in aliases:
            state.pop(prefix + name, None)

    def forgive(_module: nn.Module, unfit: Any) -> None:
        unfit.missing_keys[:] = [key for key in unfit.missing_keys if not f".{key}".endswith(ends)]

    ends = tuple(f".{name}" for name in aliases)
    module.register_state_dict_post_hook(drop)  # type: ignore[no-untyped-call]
    module.register_load_state_dict_post_hook(forgive)  # type: ignore[no-untyped-call]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
