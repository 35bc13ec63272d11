"""A study that begins with an encoder from a file, or with that of a study trained before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from polyward_deploy.compare import run_comparison
from polyward_deploy.recipes.catalogue import Recipe
from polyward_deploy.recipes.writing import write_recipe
from polyward_server.ledger import Ledger
from polyward_server.registry import for_volumes, read_encoder
from polyward_shared.problems import Problem
from polyward_shared.schema import ENCODER
from polyward_shared.states import write_state
from polyward_shared.study import Study

VOLUME = 3  # dimensions
BEFORE = "before"
BEFORE_SEED = 1  # other generated patients than those of the study itself


def started(study: Study, encoder: Path, folder: Path) -> tuple[Study, Path]:
    """The study that begins with this encoder, and the file that holds it: inflated if slices taught it and the study
    has volumes. Raises `Problem`."""
    if not encoder.is_file():
        raise Problem(str(encoder), "there is no such file", expected="a safetensors file of `encoder.` arrays")
    schema, flat = read_encoder(encoder)
    if set(schema.groups) != {ENCODER}:
        schema, flat = schema.group(ENCODER), flat[schema.groups[ENCODER]]
    if len(study.image.size) == VOLUME:
        schema, flat = for_volumes(schema, flat)
    digest = schema.state_digest(flat)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "start.safetensors"
    write_state(target, schema.views(flat), {"schema": schema.to_json(), "source": encoder.name})
    return study.model_copy(update={"encoder": study.encoder.model_copy(update={"start": digest})}), target


def trained_before(
    recipe: Recipe, before: Study, folder: Path, *, images: int | None, workers: int, talk: Console, out: Console
) -> Path:
    """Trains the study that the recipe puts before its own; the file of its last encoder."""
    target = folder / BEFORE
    path = target / "generated" / "study.toml"
    if not path.is_file():
        write_recipe(replace(recipe, study=before), target / "generated", images=images, seed=BEFORE_SEED)
    files = sorted((target / "generated" / "sites").glob("*.toml"))
    run_comparison(before, files, ("federated",), target, engine="inprocess", workers=workers, talk=talk, out=out)
    ledger = Ledger(target / "federated" / "ledger.db")
    last = ledger.last_round(before.digest())
    ledger.close()
    if last is None:
        raise Problem(str(target), "the study before has no committed round", remedy="run it again with --fresh")
    return target / "federated" / "registry" / f"{last.encoder}.safetensors"
