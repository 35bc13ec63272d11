"""`polyward-node manifest` from end to end: what it writes, the trainer reads."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import polyward_client.cli  # noqa: F401  which has the commands
from polyward_client.cli.app import app
from polyward_client.site import Site, read_site
from polyward_client.trainer.manifest import read_manifest
from polyward_shared.problems import Problem
from tests.support.images import make_study, picture, read_rows


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site as enrolling leaves it, with 24 images of 12 patients, masks, and a table of labels full of names."""
    lines = ["who,name,bright"]
    for number in range(24):
        (values, mask), labels = picture(number)
        for folder, pixels in (("images", values), ("masks", mask)):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"P{number // 2:02}_{number % 2}.png")
        lines.append(f"P{number // 2:02}_{number % 2},Doe^Jane,{labels['bright']}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "site.toml").write_text('name = "north"\ntasks = []\n[data]\nroot = "data"\n')
    return read_site(tmp_path / "site.toml")


def command(site: Site, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["manifest", str(site.path), *arguments])
    if result.exception:
        raise result.exception
    return " ".join(result.stdout.split())


def labelled(site: Site, *more: str) -> str:
    table = ["--labels", str(site.path.parent / "labels.csv"), "--on", "who", "--take", "bright"]
    return command(site, "--patient", "(P[0-9]+)_", *table, *more)


def test_what_it_writes_the_trainer_reads(site: Site) -> None:
    said = labelled(site)
    assert "24 images of 12 patients" in said
    assert "24 images have a mask" in said
    assert "24 of 24 images have a row, by stem" in said
    assert "check" in said
    assert "name the site's tasks" in said
    assert "Doe" not in site.manifest.read_text() + said
    rows = read_rows(site)
    assert list(rows[0]) == ["path", "patient_id", "split", "mask", "bright"]
    assert {row["patient_id"] for row in rows} == {f"P{number:02}" for number in range(12)}
    site.path.write_text(site.path.read_text().replace("[]", '["mask", "bright"]'))
    manifest = read_manifest(read_site(site.path), make_study(tasks=["mask", "bright"]), ("mask", "bright"))
    assert len(manifest.cases) == 24  # and so no patient is in two splits
    assert [len(manifest.labels("bright", split)) for split in ("train", "val", "test")] == [16, 2, 6]


def test_a_task_whose_masks_lie_in_another_column_is_told_so(site: Site) -> None:
    site.path.write_text(site.path.read_text().replace("[]", '["organ", "bright"]'))
    told = "next: organ has no column organ yet; if it is another of mask, bright, name that under [data.columns]"
    assert told in labelled(site)
    site.path.write_text(site.path.read_text() + '[data.columns]\norgan = "mask"\n')
    assert "has no column" not in labelled(site, "--replace")


def test_a_manifest_is_never_written_over_unasked(site: Site) -> None:
    labelled(site)
    before = site.manifest.read_bytes()
    with pytest.raises(Problem, match="exists already"):
        labelled(site, "--seed", "1")
    assert site.manifest.read_bytes() == before
    labelled(site, "--replace")
    assert site.manifest.read_bytes() == before  # the same seed, the same split
    labelled(site, "--replace", "--seed", "1")
    assert site.manifest.read_bytes() != before
    assert [path.name for path in site.root.iterdir() if path.name.startswith(".")] == []


def test_images_that_cannot_be_used_are_left_out_and_told(site: Site) -> None:
    (site.root / "images" / "P00_0.png").write_bytes(b"torn")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(site.root / "masks" / "P00_1.png")
    (site.root / "images" / "link.png").symlink_to(site.path)
    (site.root / "images" / "elsewhere").symlink_to("/")
    said = labelled(site)
    assert "1 images are left out, for the trainer cannot read them: images/P00_0.png (cannot be read" in said
    assert "1 masks are left out, for they are not of their image's size: masks/P00_1.png" in said
    rows = {row["path"]: row for row in read_rows(site)}
    assert len(rows) == 23
    assert rows["images/P00_1.png"]["mask"] == ""


def test_a_tree_in_the_manner_of_bids_is_recognised(tmp_path: Path) -> None:
    for number in range(6):
        for folder, ending in (("", "T1w"), ("derivatives/x/", "mask")):
            path = tmp_path / "data" / f"{folder}sub-{number}/anat/sub-{number}_{ending}.nii.gz"
            path.parent.mkdir(parents=True)
            volume = nibabel.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4))  # type: ignore[no-untyped-call]
            nibabel.save(volume, path)
    (tmp_path / "site.toml").write_text('name = "north"\n')
    site = read_site(tmp_path / "site.toml")
    assert "6 images of 6 patients" in command(site)
    assert read_rows(site)[5] == {
        "path": "sub-5/anat/sub-5_T1w.nii.gz",
        "patient_id": "sub-5",
        "split": read_rows(site)[5]["split"],
        "mask": "derivatives/x/sub-5/anat/sub-5_mask.nii.gz",
    }


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--labels", "x.csv"], "one without the other"),
        (["--patient", "file", "--fractions", "1"], "three numbers"),
        (["--patient", "file", "--stratify", "grade"], "found 'grade'; expected one of mask"),
        (["--from", "dicom"], "no image that can be used"),
        (["--from", "nifti"], "no image is named in the manner of BIDS"),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], text: str, site: Site) -> None:
    with pytest.raises(Problem, match=text):
        command(site, *arguments)
    assert not site.manifest.exists()


def test_an_empty_or_absent_root(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('name = "north"\n')
    site = read_site(tmp_path / "site.toml")
    with pytest.raises(Problem, match="there is no such folder"):
        command(site)
    site.root.mkdir()
    with pytest.raises(Problem, match="holds no images"):
        command(site)
