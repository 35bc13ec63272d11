"""One module -> one file, and that file -> answers again. `FORMATS` is the list; every entry is verified in `write`."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polyward_client.site import Site
from polyward_client.trainer.export.deployed import Deployed
from polyward_client.trainer.finished import Finished
from polyward_client.trainer.model import site_model

Form = Literal["torchscript", "torch-export", "onnx", "safetensors"]
Inputs = tuple[Tensor, ...]
Answer = Callable[[Inputs], tuple[Tensor, ...]]

OPSET = 18  # the least that torch's exporter writes without a conversion
LARGEST_BATCH = 4096
INPUTS = ("image", "side")


@dataclass(frozen=True, slots=True)
class Format:
    """How a module is written, how the file is read by those who get it, and the words that tell them."""

    name: str  # of the file
    write: Callable[[Deployed, Inputs, Path], None]
    read: Callable[[Path, Finished, Site, Deployed], Answer]
    how: tuple[str, ...]


def as_tuple(found: Tensor | tuple[Tensor, ...] | list[Tensor]) -> tuple[Tensor, ...]:
    return (found,) if isinstance(found, Tensor) else tuple(found)


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters talk a great deal, of things that the comparison afterwards decides."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def write_torchscript(module: Deployed, example: Inputs, path: Path) -> None:
    """A trace: the steps that one batch of images takes."""
    torch.jit.save(torch.jit.trace(module, example, check_trace=False), path)  # type: ignore[no-untyped-call]


def read_torchscript(path: Path, finished: Finished, site: Site, module: Deployed) -> Answer:
    read = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    return lambda given: as_tuple(read(*given))


def write_export(module: Deployed, example: Inputs, path: Path) -> None:
    torch.export.save(torch.export.export(module, example, dynamic_shapes=any_batch(example)), path)


def any_batch(example: Inputs) -> tuple[dict[int, object], ...]:
    """The first axis of every input is one batch of 1 to `LARGEST_BATCH`."""
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    return tuple({0: batch} for _ in example)


def read_export(path: Path, finished: Finished, site: Site, module: Deployed) -> Answer:
    read = torch.export.load(path).module()
    return lambda given: as_tuple(read(*given))


def write_onnx(module: Deployed, example: Inputs, path: Path) -> None:
    torch.onnx.export(
        module,
        example,
        path,
        input_names=INPUTS[: len(example)],
        output_names=list(module.tasks),
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=any_batch(example),
        external_data=False,
        verbose=False,
    )


def read_onnx(path: Path, finished: Finished, site: Site, module: Deployed) -> Answer:
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = site.file.device.threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def answer(given: Inputs) -> tuple[Tensor, ...]:
        fed = {name: value.numpy() for name, value in zip(names, given, strict=True)}
        return tuple(torch.from_numpy(found) for found in session.run(list(module.tasks), fed))

    return answer


def write_safetensors(module: Deployed, example: Inputs, path: Path) -> None:
    """The arrays under `<model>.<name>`, and in the header what rebuilds the module that they belong to."""
    arrays = {name.removeprefix("models."): value.contiguous().clone() for name, value in module.state_dict().items()}
    stamp = {"answers": json.dumps(module.answers), "temperatures": json.dumps(module.temperatures)}
    save_file(arrays, path, metadata=stamp)


def read_safetensors(path: Path, finished: Finished, site: Site, module: Deployed) -> Answer:
    """Puts the file's arrays into models that are built anew from the study."""
    tasks = next(iter(finished.models.values())).tasks
    fresh = {name: site_model(finished.study, tasks, site) for name in finished.models if name in module.models}
    rebuilt = Deployed(fresh, module.answers, module.temperatures)  # type: ignore[arg-type]
    rebuilt.load_state_dict({f"models.{name}": value for name, value in load_file(path).items()})
    return lambda given: as_tuple(rebuilt(*given))


FORMATS: dict[Form, Format] = {
    "torchscript": Format(
        "model.ts",
        write_torchscript,
        read_torchscript,
        ("```python", 'model = torch.jit.load("model.ts", map_location="cpu")', "outputs = model(image)", "```"),
    ),
    "torch-export": Format(
        "model.pt2",
        write_export,
        read_export,
        ("```python", 'model = torch.export.load("model.pt2").module()', "outputs = model(image)", "```"),
    ),
    "onnx": Format(
        "model.onnx",
        write_onnx,
        read_onnx,
        (
            f"ONNX, opset {OPSET}, any batch size; the outputs have the tasks' names.",
            "",
            "```python",
            'session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])',
            'outputs = session.run(None, {"image": image})',
            "```",
        ),
    ),
    "safetensors": Format(
        "model.safetensors",
        write_safetensors,
        read_safetensors,
        (
            "`model.safetensors` holds the arrays and `study.json` the study that says what they belong to: encoder,",
            "branches and topology, as polyward builds them. Names begin with the model's: `federated.encoder`, ...",
        ),
    ),
}
