"""The models of one file, side by side: the federated one's arrays under their own names, the others' under theirs."""

from __future__ import annotations

from collections.abc import Mapping

from polyward_shared.states import Arrays

BESIDE = ("alone", "ditto", "previous")


def side_by_side(models: Mapping[str, Arrays]) -> Arrays:
    """The arrays of several models as one state: `federated` and those that `BESIDE` names."""
    return {
        name if model == "federated" else f"{model}.{name}": array
        for model, arrays in models.items()
        for name, array in arrays.items()
    }


def taken_apart(arrays: Arrays) -> dict[str, Arrays]:
    """The reverse of `side_by_side`; a model without arrays is absent."""
    models: dict[str, Arrays] = {}
    for name, array in arrays.items():
        first, _, rest = name.partition(".")
        model, own = (first, rest) if first in BESIDE else ("federated", name)
        models.setdefault(model, {})[own] = array
    return models
