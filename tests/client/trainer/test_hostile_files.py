"""Files and cells made to do harm: each is one clear sentence, in little time and memory; nothing outside is opened.

The files are read by a process of its own, which may take a gibibyte beyond what its libraries need, and a second for
each of them.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, JPEGBaseline8Bit, RLELossless

from polyward_client.site import read_site
from polyward_client.trainer.images import read_image, read_mask
from polyward_client.trainer.manifest import read_manifest
from polyward_shared.problems import Problem
from tests.client.trainer.test_images import PATIENT, write_dicom
from tests.support.images import make_study, read_rows, write_manifest, write_site

READ = """
import resource, sys, time
from pathlib import Path
from polyward_client.trainer.images import read_image
from polyward_shared.problems import Problem
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 2**30, held + 2**30))
for path, dims in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    began = time.monotonic()
    try:
        said = f"read {read_image(Path(path), int(dims)).values.shape}"
    except Problem as problem:
        said = str(problem)
    assert time.monotonic() - began < 5, path
    print(Path(path).parent.name, said.replace("\\n", " "), sep="|")
"""


def nifti(shape: tuple[int, ...] = (2, 2, 2), **fields: object) -> bytes:
    """A NIfTI-1 file of zeros, int16, whose header says what it is told to."""
    header = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_shape((2, 2, 2))  # type: ignore[no-untyped-call]
    header.set_data_dtype(np.int16)  # type: ignore[no-untyped-call]
    header["magic"], header["vox_offset"] = b"n+1", 352
    header["dim"] = [len(shape), *shape, *[1] * (7 - len(shape))]
    for name, value in fields.items():
        header[name] = value
    return bytes(header.binaryblock) + bytes(4) + bytes(16)


def zeros(count: int) -> bytes:
    """So many zeros in gzip members of 16 MiB, a thousandth of the size."""
    return gzip.compress(bytes(1 << 24)) * (count >> 24)


def png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def npy(shape: str, descr: str = "'<f4'", data: bytes = bytes(64)) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(-(-(len(text) + 11) // 64) * 64 - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npz(content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("image.npy", content)
    return packed.getvalue()


def dicom(folder: Path, **tags: object) -> bytes:
    path = folder / "made"
    write_dicom(path, np.zeros((4, 4)), **tags)
    return path.read_bytes()


def nested(folder: Path) -> bytes:
    """Sequences, 150 of them, one within the other."""
    inner = Dataset()
    inner.PatientName = PATIENT
    for _ in range(150):
        outer = Dataset()
        outer.ReferencedStudySequence = Sequence([inner])
        outer["ReferencedStudySequence"].is_undefined_length = True
        inner = outer
    return dicom(folder, ReferencedStudySequence=inner.ReferencedStudySequence)


def deflated(folder: Path) -> bytes:
    """Stated to be packed as a whole, and what is packed are zeros."""
    plain = dicom(folder)
    there = plain.index(b"1.2.840.10008.1.2.1\0")
    length = int.from_bytes(plain[140:144], "little") + 2
    head = plain[: there - 2] + struct.pack("<H", 22) + b"1.2.840.10008.1.2.1.99"
    rest = plain[there + 20 : 144 + int.from_bytes(plain[140:144], "little")]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = (packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)) * 128  # two gibibytes
    return head[:140] + length.to_bytes(4, "little") + head[144:] + rest + body


def compressed(folder: Path, frame: bytes, syntax: str) -> bytes:
    """A DICOM file of 4 x 4 whose pixels are this frame."""
    path = folder / "made"
    write_dicom(path, np.zeros((4, 4)), BitsAllocated=8, BitsStored=8, HighBit=7)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return path.read_bytes()


def jpeg(side: int) -> bytes:
    """Black, at a thousandth of its size; the sides that it states are `side`."""
    packed = io.BytesIO()
    Image.new("L", (64, 64)).save(packed, "JPEG")
    data = bytearray(packed.getvalue())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(data)


# name of the file, dimensions, content, and what the message says
Attack = tuple[str, int, Callable[[Path], bytes], str]
ATTACKS: dict[str, Attack] = {
    "png of 60000 x 60000": ("a.png", 2, lambda _: png(60000, 60000), "size that is beyond all bounds"),
    "png that states nothing": ("a.png", 2, lambda _: png(0, 5), "cannot be read"),
    "png with a text of a gibibyte": (
        "a.png",
        2,
        lambda _: png(4, 4)[:33] + struct.pack(">I", 2**20) + b"zTXta\0\0" + zlib.compress(bytes(1 << 28)),
        "cannot be read",
    ),
    "png that is another kind": ("a.png", 2, lambda _: b"GIF89a" + bytes(90), "cannot be read"),
    "nifti of petabytes": (
        "a.nii",
        3,
        lambda _: nifti((30000, 30000, 30000)),
        "states a size of 30000 x 30000 x 30000",
    ),
    "packed nifti of terabytes": (
        "a.nii.gz",
        3,
        lambda _: gzip.compress(nifti((10000,) * 3)),
        "states a size of 10000",
    ),
    "nifti that states more than it holds": ("a.nii", 3, lambda _: nifti((600, 600, 600)), "more values than it can"),
    "packed nifti that states more than it can hold": (
        "a.nii.gz",
        3,
        lambda _: gzip.compress(nifti((600, 600, 600))),
        "more values than it can hold",
    ),
    "packed nifti with an extension of two gibibytes": (
        "a.nii.gz",
        3,
        lambda _: gzip.compress(nifti(vox_offset=4096)[:348] + struct.pack("<iii", 1, 2**31 - 16, 4)) + zeros(2 << 30),
        "read (1, 2, 2, 2)",
    ),
    "packed nifti followed by four gibibytes": (
        "a.nii.gz",
        3,
        lambda _: gzip.compress(nifti()) + zeros(4 << 30),
        "read (1, 2, 2, 2)",
    ),
    "nifti with values at infinity": ("a.nii", 3, lambda _: nifti(vox_offset=np.inf), "begin where none can be"),
    "nifti with values before it": ("a.nii", 3, lambda _: nifti(vox_offset=-1e9), "cannot be read"),
    "nifti with negative sides": ("a.nii", 3, lambda _: nifti((-2, -2, 2)), "states a size of -2 x -2 x 2"),
    "nifti without orientation": (
        "a.nii",
        3,
        lambda _: nifti(sform_code=1, srow_x=np.nan, srow_y=np.nan, srow_z=np.nan),
        "orientation that no volume can have",
    ),
    "nifti of triples": ("a.nii", 3, lambda _: nifti(datatype=128, bitpix=24), "holds no plain numbers"),
    "nifti with a kind of its own": ("a.nii", 3, lambda _: nifti(datatype=999), "cannot be read"),
    "half a nifti": ("a.nii", 3, lambda _: nifti()[:200], "cannot be read"),
    "the head of a pair": ("a.nii", 3, lambda _: nifti(magic=b"ni1"), "half of a pair"),
    "npy of terabytes": ("a.npy", 2, lambda _: npy("(1000000, 1000000)"), "states a size of 1000000 x 1000000"),
    "npy of a million channels": ("a.npy", 2, lambda _: npy("(1000000, 512, 512)"), "states a size of 1000000 x 512"),
    "npy that states more than it holds": ("a.npy", 2, lambda _: npy("(16000, 16000)"), "more values than it can hold"),
    "npy of negative sides": ("a.npy", 2, lambda _: npy("(-4, -4)"), "states a size of -4 x -4"),
    "npy of objects": ("a.npy", 2, lambda _: npy("(4, 4)", "'|O'", b"cos\nsystem\n(S'id'\ntR."), "no plain numbers"),
    "npy of records": ("a.npy", 2, lambda _: npy("(4, 4)", "[('a', '<f4', (1000000,))]"), "no plain numbers"),
    "npy with code for a shape": ("a.npy", 2, lambda _: npy("__import__('os').getpid()"), "cannot be read"),
    "npy with a header without end": ("a.npy", 2, lambda _: npy("(" * 30000), "cannot be read"),
    "npz of terabytes": ("a.npz", 2, lambda _: npz(npy("(1000000, 1000000)")), "states a size of"),
    "npz that states more than it can hold": ("a.npz", 2, lambda _: npz(npy("(16000, 16000)")), "more values than"),
    "npz of objects": (
        "a.npz",
        2,
        lambda _: npz(npy("(4, 4)", "'|O'", b"cos\nsystem\n(S'id'\ntR.")),
        "no plain numbers",
    ),
    "npz packed with another method": ("a.npz", 2, lambda _: npz(npy("(4, 4)"), zipfile.ZIP_LZMA), "packed in a way"),
    "npz behind the head of a huge npy": (
        "a.npz",
        2,
        lambda _: npy("(16000, 16000)", data=b"") + npz(npy("(4, 4)")),
        "read (1, 4, 4)",
    ),
    "dicom of absurd rows": (
        "a.dcm",
        2,
        lambda f: dicom(f, Rows=65535, Columns=65535),
        "states a size of 65535 x 65535",
    ),
    "dicom of a billion frames": ("a.dcm", 3, lambda f: dicom(f, NumberOfFrames=999999999), "states a size of 4 x 4 x"),
    "dicom of less than no frames": ("a.dcm", 3, lambda f: dicom(f, NumberOfFrames=-4), "states a size of 4 x 4 x -4"),
    "dicom without rows": ("a.dcm", 2, lambda f: dicom(f, Rows=0), "states a size of 0 x 4"),
    "dicom that states more than it holds": ("a.dcm", 2, lambda f: dicom(f, Rows=9000, Columns=9000), "cannot be read"),
    "dicom of odd samples": ("a.dcm", 2, lambda f: dicom(f, SamplesPerPixel=60000), "an odd number of values"),
    "dicom of nested sequences": ("a.dcm", 2, nested, "read (1, 4, 4)"),
    "dicom packed as a whole": ("a.dcm", 2, deflated, "is packed as a whole"),
    "dicom of a jpeg of 60000 x 60000": (
        "a.dcm",
        2,
        lambda f: compressed(f, jpeg(60000), JPEGBaseline8Bit),
        "cannot be read (RuntimeError)",
    ),
    "dicom of a jpeg of another size": ("a.dcm", 2, lambda f: compressed(f, jpeg(64), JPEGBaseline8Bit), "cannot be"),
    "dicom of runs that never end": (
        "a.dcm",
        2,
        lambda f: compressed(f, struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\xff" * 100000, RLELossless),
        "read (1, 4, 4)",
    ),
    "dicom of an unknown way to compress": ("a.dcm", 2, lambda f: compressed(f, b"abcd", "1.2.3.4"), "cannot be read"),
    "jpeg of 60000 x 60000": ("a.jpg", 2, lambda _: jpeg(60000), "size that is beyond all bounds"),
    "jpeg that states more than it holds": ("a.jpg", 2, lambda _: jpeg(4000), "read (1, 4000, 4000)"),  # JPEG fills up
    "half a dicom": ("a.dcm", 2, lambda f: dicom(f)[:-20], "cannot be read"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What reading each file said."""
    folder = tmp_path_factory.mktemp("hostile")
    arguments: list[str] = []
    for number, (file, dims, content, _) in enumerate(ATTACKS.values()):
        place = folder / str(number)
        place.mkdir()
        (place / file).write_bytes(content(place))
        arguments += [str(place / file), str(dims)]
    answer = subprocess.run(
        [sys.executable, "-c", READ, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert PATIENT.split("^")[0] not in answer.stdout + answer.stderr
    said = dict(line.split("|", 1) for line in answer.stdout.splitlines())
    return {name: said[str(number)] for number, name in enumerate(ATTACKS)}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_file_is_one_sentence(name: str, answers: dict[str, str]) -> None:
    file, _, _, text = ATTACKS[name]
    print(answers[name])
    assert text in answers[name]
    assert "MemoryError" not in answers[name]
    assert answers[name].startswith("read " if text.startswith("read ") else f"{file}: ")


def change(site_rows: list[dict[str, str]], column: str, value: str) -> list[dict[str, str]]:
    return [{**site_rows[0], column: value}, *site_rows[1:]]


PATHS = {
    "dots": "../outside.png",
    "dots within": "folder/../../outside.png",
    "absolute": "/etc/hostname",
    "link": "link.png",
    "link to a folder": "linked/outside.png",
    "link to a device": "zero.png",
    "link in a ring": "ring.png",
    "pipe": "pipe.png",
    "series of which a slice leads out": "series",
    "folder": "folder",
    "folder that looks like an image": "folder.png",
    "the root": ".",
    "nothing at all": "\0.png",
    "the terminal's colours": "\x1b[2J.png",
    "a line of its own": "a\nb.png",
    "long": "a" * 5000 + ".png",
    "deep": "a/" * 3000 + "a.png",
}


@pytest.mark.parametrize("column", ["path", "mask"])
@pytest.mark.parametrize("name", PATHS)
def test_a_hostile_path_is_named_with_its_row_and_nothing_outside_is_opened(
    name: str, column: str, tmp_path: Path
) -> None:
    site = write_site(tmp_path, tasks=["mask"])
    root, outside = site.root, tmp_path / "outside.png"
    (root / "folder").mkdir()
    (root / "folder.png").mkdir()
    (root / "link.png").symlink_to(outside)
    (root / "linked").symlink_to(tmp_path)
    (root / "zero.png").symlink_to("/dev/zero")
    (root / "ring.png").symlink_to("ring.png")
    os.mkfifo(root / "pipe.png")
    (root / "series").mkdir()
    os.mkfifo(outside)  # to open it would wait for ever
    (root / "series" / "1.dcm").symlink_to(outside)
    os.mkfifo(root / "series" / "2.dcm")
    write_manifest(site.manifest, change(read_rows(site), column, PATHS[name]))
    with pytest.raises(Problem) as caught:
        read_manifest(site, make_study(tasks=["mask"]), ("mask",))
    text = str(caught.value)
    print(text)
    assert f"row 2, column {column}: found '" in text
    assert len(text) < 1000
    assert text.replace("\n", "").isprintable()


def test_a_slice_that_leads_out_of_the_folder_is_not_opened(tmp_path: Path) -> None:
    folder, outside = tmp_path / "series", tmp_path / "outside.dcm"
    folder.mkdir()
    write_dicom(outside, np.zeros((4, 4)))
    (folder / "1.dcm").symlink_to(outside)
    with pytest.raises(Problem, match="holds a link that leads out of it"):
        read_image(folder, 3)


def test_a_folder_of_countless_files_is_not_listed(tmp_path: Path) -> None:
    for number in range(4200):
        (tmp_path / f"{number}.dcm").touch()
    with pytest.raises(Problem, match="is a folder of more than 4096 files"):
        read_image(tmp_path, 3)


def test_a_file_that_is_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.dcm").open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(Problem, match="has 1,048,576 MiB; expected at most"):
        read_image(tmp_path / "a.dcm", 2)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "zeros", "endless"])
def test_a_manifest_that_is_no_table(kind: str, tmp_path: Path) -> None:
    site = write_site(tmp_path, tasks=["mask"])
    site.manifest.unlink()
    match kind:
        case "pipe":
            os.mkfifo(site.manifest)
        case "device":
            site.manifest.symlink_to("/dev/zero")
        case "folder":
            site.manifest.mkdir()
        case "zeros":
            site.manifest.write_bytes(bytes(4096))
        case "endless":
            with site.manifest.open("wb") as file:
                file.truncate(1 << 40)
    with pytest.raises(Problem, match=r"manifest.csv: (is not a plain file|the columns|has 1,048,576 MiB|cannot be)"):
        read_manifest(site, make_study(tasks=["mask"]), ("mask",))


def whole(folder: Path) -> dict[str, tuple[int, bytes]]:
    """A good file of each kind, with its dimensions."""
    generator = np.random.default_rng(0)
    values = generator.integers(0, 255, (12, 10), np.uint8)
    Image.fromarray(values).save(folder / "a.png")
    Image.fromarray(values).save(folder / "a.jpg")
    volume = nibabel.Nifti1Image(generator.integers(0, 99, (5, 4, 3)).astype(np.int16), np.eye(4))  # type: ignore[no-untyped-call]
    for name in ("a.nii", "a.nii.gz"):
        nibabel.save(volume, folder / name)
    np.save(folder / "a.npy", values)
    np.savez_compressed(folder / "a.npz", image=values)
    write_dicom(folder / "a.dcm", values.astype(np.uint16))
    return {path.name: (3 if ".nii" in path.name else 2, path.read_bytes()) for path in sorted(folder.iterdir())}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")  # what a library thinks of a damaged file is not ours to say
def test_a_damaged_file_is_read_or_told(data: st.DataObject, tmp_path: Path) -> None:
    """Cut off anywhere, or with a few bytes changed: an image of finite numbers, or a `Problem` with the file."""
    good = tmp_path / "good"
    if not good.exists():
        good.mkdir()
        whole(good)
    name = data.draw(st.sampled_from(sorted(path.name for path in good.iterdir())))
    dims, content = 3 if ".nii" in name else 2, bytearray((good / name).read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(len(content) // 2, len(content))) :]
    (tmp_path / name).write_bytes(content)
    try:
        assert np.isfinite(read_image(tmp_path / name, dims).values).all()
        read_mask(tmp_path / name, dims, classes=200)
    except Problem as problem:
        assert problem.where == name  # noqa: PT017  not every damage is one


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text("path,ntid_slm\n\"'.0/\\~\0\r;1", max_size=200).map(str.encode))
def test_any_bytes_as_a_manifest_are_told(content: bytes, tmp_path: Path) -> None:
    site = read_site(tmp_path / "north.toml") if (tmp_path / "north.toml").exists() else write_site(tmp_path)
    site.manifest.write_bytes(b"path,patient_id,split,bright\n" * (len(content) % 2) + content)
    with pytest.raises(Problem, match=str(site.manifest)):
        read_manifest(site, make_study(tasks=["bright"]), ("bright",))
