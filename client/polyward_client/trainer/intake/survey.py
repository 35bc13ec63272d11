"""A data root -> everything in it that can be used, whatever form it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from polyward_client.site import Site
from polyward_client.trainer.intake.build import readable
from polyward_client.trainer.intake.folders import find_images
from polyward_client.trainer.intake.found import Form, Survey
from polyward_client.trainer.intake.niftis import find_volumes
from polyward_client.trainer.intake.pseudonyms import keyed, tabled
from polyward_client.trainer.intake.series import Wanted, find_series
from polyward_client.trainer.intake.walk import files_below, recognised

Told = Callable[[str, int, int], None]
SECRET = "pseudonyms.key"  # noqa: S105  the name of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person asked for, each part for one of the forms."""

    form: Form | None = None
    patient: str = ""  # folder
    masks: str = ""  # folder
    suffix: str = ""  # nifti
    series: Wanted = field(default_factory=Wanted)  # dicom
    pseudonyms: Path | None = None  # dicom


def survey(site: Site, asked: Asked, told: Told) -> Survey:
    """The usable images of a site's data root. `told(what, done, of)` is the progress. Raises `Problem`."""
    names = files_below(site.root, site.state)
    if asked.series.sort:  # what an earlier call put there is found again at its first place
        names = [name for name in names if not PurePosixPath(name).is_relative_to(asked.series.sort)]
    form = asked.form or recognised(site.root, names)
    match form:
        case "folder":
            seen = find_images(names, patient=asked.patient, masks=asked.masks)
        case "nifti":
            seen = find_volumes(names, suffix=asked.suffix)
        case "dicom":
            pseudonym = tabled(asked.pseudonyms) if asked.pseudonyms else keyed(site.trainer / SECRET)
            seen = find_series(
                site.root, names, asked.series, pseudonym, lambda done, of: told("reading headers", done, of)
            )
    return readable(site.root, seen, lambda done, of: told("checking images", done, of))
