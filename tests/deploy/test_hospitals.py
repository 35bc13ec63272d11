"""The generated hospitals: valid for the readers, the same bytes for the same seed, labels that follow the anatomy."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from polyward_client.site import SiteFile, read_site
from polyward_deploy.generated import MARKER, is_generated
from polyward_deploy.hospitals import HOSPITALS, write_hospitals
from polyward_deploy.phantoms import Scanner, draw_anatomy, findings, render
from polyward_shared.reading import read_toml
from polyward_shared.study import read_study
from polyward_shared.tasks import Multiclass, Ordinal

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


def rows_of(data: Path) -> list[dict[str, str]]:
    with (data / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hospitals(tmp_path_factory.mktemp("hospitals"), images=200, size=32).parent


def test_study_and_sites_are_valid_and_fit_together(folder: Path) -> None:
    study = read_study(folder / "study.toml")
    assert study.rounds == 5
    assert study.image.size == (32, 32)
    sites = [read_site(path) for path in sorted((folder / "sites").glob("*.toml"))]
    assert {site.name for site in sites} == {hospital.name for hospital in HOSPITALS}
    assert {task for site in sites for task in site.file.tasks} == set(study.tasks)
    for site in sites:
        assert is_generated(site.root)
        assert list(rows_of(site.root)[0])[3:] == list(site.file.tasks)


def test_every_label_is_one_that_the_study_declares(folder: Path) -> None:
    study = read_study(folder / "study.toml")
    for hospital in HOSPITALS:
        for row in rows_of(folder / "data" / hospital.name):
            for task in hospital.tasks:
                kind = study.tasks[task]
                if not row[task] or kind.kind == "segmentation":
                    continue
                if kind.kind == "binary":
                    assert row[task] in {"0", "1"}
                elif kind.kind == "regression":
                    assert float(row[task]) > 0
                else:
                    assert isinstance(kind, Multiclass | Ordinal)
                    assert row[task] in kind.classes


def test_images_and_masks_are_there_and_fit(folder: Path) -> None:
    seen = set()
    for row in rows_of(folder / "data" / "riverside"):
        with Image.open(folder / "data" / "riverside" / row["path"]) as image:
            assert image.size == (32, 32)
            assert "GENERATED" in image.info["Comment"]
        if row["structures"]:
            with Image.open(folder / "data" / "riverside" / row["structures"]) as mask:
                assert mask.size == (32, 32)
                seen.add(tuple(np.unique(np.asarray(mask))))
    assert seen >= {(0, 1), (0, 1, 2)}, "images with and without a lesion"


def test_no_patient_is_in_two_splits_and_every_split_has_cases(folder: Path) -> None:
    for hospital in HOSPITALS:
        rows = rows_of(folder / "data" / hospital.name)
        assert len({(r["patient_id"], r["split"]) for r in rows}) == len({r["patient_id"] for r in rows})
        assert {r["split"] for r in rows} == {"train", "val", "test"}


def test_hospitals_differ_in_size_and_lack_some_labels(folder: Path) -> None:
    counts = {hospital.name: len(rows_of(folder / "data" / hospital.name)) for hospital in HOSPITALS}
    assert sum(counts.values()) == 200
    assert counts["riverside"] > 3 * counts["chapel"]
    for hospital in HOSPITALS:
        empty = [not row[task] for row in rows_of(folder / "data" / hospital.name) for task in hospital.tasks]
        assert 0 < np.mean(empty) < 0.5


@pytest.mark.parametrize("dimensions", [2, 3])
def test_same_seed_same_bytes(tmp_path: Path, dimensions: int) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_hospitals(tmp_path / name, hospitals=2, images=20, size=16, seed=seed, dimensions=dimensions)
    first, second, other = (bytes_of(tmp_path / name) for name in "abc")
    assert first == second
    differing = {name for name in first.keys() & other.keys() if first[name] != other[name]}
    assert {Path(name).parent.name for name in differing} >= {"images", "masks"}


def test_volumes(tmp_path: Path) -> None:
    study = read_study(write_hospitals(tmp_path, hospitals=2, images=20, size=16, dimensions=3))
    assert study.image.size == (16, 16, 16)
    row = next(row for row in rows_of(tmp_path / "data" / "riverside") if row["structures"])
    for column in ("path", "structures"):
        volume = nib.load(tmp_path / "data" / "riverside" / row[column])
        assert isinstance(volume, nib.Nifti1Image)
        assert volume.shape == (16, 16, 16)
        assert np.allclose(np.diag(volume.affine), [20, 20, 20, 1])
        assert b"GENERATED" in bytes(volume.header["descrip"])


def test_every_file_that_a_person_reads_says_generated(folder: Path) -> None:
    texts = [*folder.rglob("*.toml"), *folder.rglob(MARKER)]
    assert len(texts) == 1 + 2 * len(HOSPITALS)
    assert all("GENERATED" in path.read_text(encoding="utf-8") for path in texts)


def test_more_hospitals_than_patterns_have_names_of_their_own(tmp_path: Path) -> None:
    write_hospitals(tmp_path, hospitals=6, images=20, size=16)
    assert rows_of(tmp_path / "data" / "riverside") != rows_of(tmp_path / "data" / "riverside2")


def test_labels_follow_the_anatomy() -> None:
    generator = np.random.default_rng(3)
    found = []
    for _ in range(200):
        anatomy = draw_anatomy(generator, 2, prevalence=0.7, severity=0.5)
        _, mask, size = render(anatomy, Scanner(note=""), 32, generator=generator)
        assert (anatomy.lesion is not None) == bool((mask == 2).any())
        labels = findings(anatomy, size, generator)
        assert (labels["lesion_type"] == "") == (anatomy.lesion is None)
        assert (labels["grade"] == "clear") == (anatomy.lesion is None)
        found.append((anatomy, labels))
    ill = [(a.lesion, labels) for a, labels in found if a.lesion is not None]
    margin = {k: np.mean([x.irregularity for x, labels in ill if labels["lesion_suspicious"] == k]) for k in "01"}
    assert margin["1"] > margin["0"] + 0.2
    radius = {k: np.mean([x.radius for x, labels in ill if labels["grade"] == k]) for k in ("low", "middle", "high")}
    assert radius["low"] < radius["middle"] < radius["high"]
    organs = np.corrcoef([a.organ for a, _ in found], [float(labels["organ_size"]) for _, labels in found])
    assert organs[0, 1] > 0.95


@pytest.mark.parametrize(
    ("hospitals", "images", "size", "dimensions"), [(1, 40, 32, 2), (2, 5, 32, 2), (2, 40, 20, 2), (2, 40, 32, 4)]
)
def test_impossible_requests_are_refused(
    tmp_path: Path, hospitals: int, images: int, size: int, dimensions: int
) -> None:
    with pytest.raises(ValueError, match="expected at least 2 hospitals"):
        write_hospitals(tmp_path / "new", hospitals=hospitals, images=images, size=size, dimensions=dimensions)
    assert not (tmp_path / "new").exists()


def test_the_breast_example_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYWARD_PACKS", str(tmp_path))
    shutil.copytree(EXAMPLES / "breast_us", tmp_path / "example")
    study = read_study(tmp_path / "example" / "study.toml")
    files = sorted((tmp_path / "example" / "sites").glob("*.toml"))
    assert [path.stem for path in files] == ["busbra_aplio300", "busbra_logiq5", "busbra_logiq7", "busbra_usystems"]
    for path in files:
        site = read_site(path)
        file = read_toml(path, SiteFile)
        assert set(file.tasks) <= set(study.tasks)
        assert file.data.rows == {"site": path.stem}
        assert site.root == tmp_path / "breast_us"
        assert "Gomez-Flores" in path.read_text(encoding="utf-8")
