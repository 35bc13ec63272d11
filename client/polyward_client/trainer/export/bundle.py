"""A MONAI bundle of one task: its network as TorchScript, so that MONAI alone can run it, and MONAI's own transforms.

The transforms do what `form.py` does in training, in MONAI's words: the same for images of the proportions of the
study's size that need not shrink. A shrinking one MONAI smooths against zeros at its border; and it scales by the
longest side, where training takes the largest size that fits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from monai.bundle.config_parser import ConfigParser
from monai.bundle.properties import InferProperties, MetaProperties
from monai.bundle.scripts import verify_net_in_out
from safetensors.torch import save_file

from polyward_client.trainer.evaluate import WINDOW_OVERLAP
from polyward_client.trainer.export.card import USE, write_card
from polyward_client.trainer.export.deployed import Deployed
from polyward_client.trainer.export.formats import Answer, Inputs, as_tuple, write_torchscript
from polyward_client.trainer.tasks import TaskKind
from polyward_shared.problems import Problem
from polyward_shared.study import Image, Study

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
IGNITE = "0.4.11"  # which MONAI's evaluator is made of, and the least that it takes
LABELLED = frozenset({"segmentation", "centreline"})  # the kinds whose answer is a mask
METADATA, INFERENCE, NETWORK = "configs/metadata.json", "configs/inference.json", "models/model.ts"
HOW = (
    "A MONAI bundle: `configs/inference.json` answers for every image in `dataset_dir`.",
    "",
    "```sh",
    "python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir IMAGES \\",
    "  --output_dir ANSWERS",
    "```",
    "",
    "`models/model.ts` is the network, TorchScript that needs no code of ours; `models/model.safetensors` holds its",
    "arrays. The transforms in `inference.json` are MONAI's own. They give exactly the steps above for images of the",
    "size's proportions that need not shrink. MONAI smooths a shrinking image otherwise than training did, most at its",
    "border; without the proportions, or with a spacing, sizes differ by rounding. Polyward's `predict` has no gap.",
)


def write_bundle(folder: Path, study: Study, module: Deployed, example: Inputs, card: Mapping[str, Any]) -> None:
    """`configs`, `models` and `docs` in `folder`; the module is that of one task, without side inputs."""
    for part in ("configs", "models", "docs"):
        (folder / part).mkdir()
    (task,) = module.tasks
    kind = module.kinds[task]
    write_torchscript(module, example, folder / NETWORK)
    arrays = {name: value.contiguous().clone() for name, value in module.state_dict().items()}
    save_file(arrays, folder / "models" / "model.safetensors")
    with torch.no_grad():
        shape = tuple(as_tuple(module(*example))[0].shape[1:])
    _json(folder / METADATA, metadata(study, kind, card, shape))
    _json(folder / INFERENCE, inference(study, kind))
    write_card(folder / "docs", card, HOW)


def read_bundle(folder: Path) -> Answer:
    """The bundle's network, built by MONAI from the configuration and checked by MONAI against the metadata.

    Raises what MONAI raises, and `Problem` where the configuration lacks a property that MONAI's workflows ask for.
    """
    meta, config = str(folder / METADATA), str(folder / INFERENCE)
    verify_net_in_out("network_def", meta_file=meta, config_file=config, device="cpu", bundle_root=str(folder))
    parser = ConfigParser()
    parser.read_config(config)
    parser.read_meta(meta)
    parser["bundle_root"] = str(folder)
    properties = cast(Mapping[str, Mapping[str, Any]], {**InferProperties, **MetaProperties})
    wanted = [str(each["id"]) for each in properties.values() if each["required"]]
    if missing := [place for place in wanted if parser.get(place) is None]:
        raise Problem("the bundle", f"lacks {', '.join(missing)}", expected="all properties of an inference workflow")
    network = parser.get_parsed_content("network_def")
    return lambda given: as_tuple(network(*given))


def metadata(study: Study, kind: TaskKind, card: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """What MONAI's schema for bundles asks for; `shape` is that of one answer, without the batch."""
    (task,) = card["tasks"]
    image, window = study.image, study.image.window
    pixels = {"type": "image", "format": "magnitude", "modality": "any", "is_patch_data": window is not None}
    bounded = task["kind"] not in {"regression", "survival", "synthesis", "detection"}
    return {
        "schema": SCHEMA,
        "version": f"1.0.{card['round']}",
        "changelog": {f"1.0.{card['round']}": f"the study's model after round {card['round']}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in ("nibabel", "pillow")}
        | {"pytorch-ignite": IGNITE},
        "supported_apps": {},
        "name": f"{study.id}: {task['name']}",
        "task": f"{task['kind']}: {task['output']}",
        "description": f"The model of the task {task['name']} of the federated study {study.id}. {USE}",
        "authors": f"the sites of the study {study.id}; written by the site {card['site']}",
        "copyright": "see LICENSE",
        "intended_use": USE,
        "data_type": "any that MONAI's LoadImage reads",
        "network_data_format": {
            "inputs": {
                "image": {
                    **pixels,
                    "num_channels": image.channels,
                    "spatial_shape": list(image.seen),
                    "dtype": "float32",
                    "value_range": [] if image.intensity == "zscore" else [0, 1],
                    "channel_def": {str(place): f"channel {place}" for place in range(image.channels)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities" if bounded else "series",
                    "format": task["kind"],
                    "num_channels": shape[0],
                    "spatial_shape": list(shape[1:]),
                    "dtype": "float32",
                    "value_range": [0, 1] if bounded else [],
                    "is_patch_data": window is not None,
                    "channel_def": task["channels"],
                }
            },
        },
    }


def inference(study: Study, kind: TaskKind) -> dict[str, Any]:
    """The configuration of an inference workflow, in MONAI's language of references (`@`) and expressions (`$`)."""
    masks = kind.level == "map"
    return {
        "imports": ["$import os", "$import torch", "$from pathlib import Path"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/answers'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "datalist": "$[{'image': str(path)} for path in sorted(Path(@dataset_dir).iterdir()) if path.name[0] != '.']"
        " if os.path.isdir(@dataset_dir) else []",
        "network_def": f"$torch.jit.load(@bundle_root + '/{NETWORK}', map_location='cpu').eval()",
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing(study.image)},
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": _inferer(study.image, masks=masks),
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(kind, study)},
        "handlers": [] if masks else [_table()],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "initialize": [],
        "run": ["$@evaluator.run()"],
        "finalize": [],
    }


def preprocessing(image: Image) -> list[dict[str, Any]]:
    """File -> the study's form, in MONAI's transforms."""
    flat, keys = len(image.size) == 2, {"keys": "image"}
    mode = "bilinear" if flat else "trilinear"
    steps: list[dict[str, Any]] = []
    if flat:  # rows first, as in training, and grey or colours as the study has them
        colours = "RGB" if image.channels == 3 else "L"
        reader = {
            "reader": "PILReader",
            "reverse_indexing": False,
            "converter": f"$lambda image: image.convert('{colours}')",
        }
        steps.append({"_target_": "LoadImaged", **keys, **reader})
        channel = -1 if image.channels == 3 else "no_channel"
        steps.append({"_target_": "EnsureChannelFirstd", **keys, "channel_dim": channel})
    else:
        steps.append({"_target_": "LoadImaged", **keys})
        steps.append({"_target_": "EnsureChannelFirstd", **keys})
        steps.append({"_target_": "Orientationd", **keys, "axcodes": "RAS", "labels": None})
    steps.append(_intensity(image))
    if image.spacing is not None:
        steps.append({"_target_": "Spacingd", **keys, "pixdim": list(image.spacing), "mode": "bilinear"})
        steps.append({"_target_": "CenterSpatialCropd", **keys, "roi_size": list(image.size)})
    else:
        longest = len(set(image.size)) == 1
        size = image.size[0] if longest else list(image.size)
        how = {
            "size_mode": "longest" if longest else "all",
            "mode": mode,
            "align_corners": False,
            "anti_aliasing": True,
        }
        steps.append({"_target_": "Resized", **keys, "spatial_size": size, **how})
    steps.append({"_target_": "SpatialPadd", **keys, "spatial_size": list(image.size)})
    return [*steps, {"_target_": "EnsureTyped", **keys, "dtype": "$torch.float32"}]


def _intensity(image: Image) -> dict[str, Any]:
    if image.intensity == "minmax":
        return {"_target_": "ScaleIntensityd", "keys": "image", "channel_wise": True}
    if image.intensity == "zscore":
        return {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}
    low, high = image.intensity
    bounds = {"a_min": low, "a_max": high, "b_min": 0.0, "b_max": 1.0, "clip": True}
    return {"_target_": "ScaleIntensityRanged", "keys": "image", **bounds}


def _inferer(image: Image, *, masks: bool) -> dict[str, Any]:
    if image.window is None or not masks:
        return {"_target_": "SimpleInferer"}
    how = {"roi_size": list(image.window), "sw_batch_size": 1, "overlap": WINDOW_OVERLAP, "mode": "gaussian"}
    return {"_target_": "SlidingWindowInferer", **how}


def _postprocessing(kind: TaskKind, study: Study) -> list[dict[str, Any]]:
    """A mask goes back to the grid of its file and is saved; other maps are saved in the study's form."""
    if kind.level == "image":
        return [{"_target_": "Identityd", "keys": "pred"}]
    saved = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "separate_folder": False}
    if study.tasks[kind.name].kind not in LABELLED:
        return [{**saved, "output_postfix": kind.name, "resample": False}]
    back = {"transform": "@preprocessing", "orig_keys": "image", "nearest_interp": False, "to_tensor": True}
    return [
        {"_target_": "Invertd", "keys": "pred", **back},
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {**saved, "output_postfix": kind.name, "output_dtype": "$__import__('numpy').uint8", "resample": False},
    ]


def _table() -> dict[str, Any]:
    return {
        "_target_": "ClassificationSaver",
        "output_dir": "@output_dir",
        "batch_transform": "$lambda batch: [each['image'].meta for each in batch]",
        "output_transform": "$lambda output: [each['pred'] for each in output]",
    }


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
