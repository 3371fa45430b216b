"""Small data sets in the file formats of the real ones.

Every class has a different colour below the noise, so that a network can learn from a few images.

Letters: N images, P = 3 x 32 x 32 levels.
"""

import colorsys
import pickle
import pickletools
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
# Bytes of Python 3 are written as strings of Python 2: only the opcode differs.
PYTHON2_OPCODES = {"B": "T", "C": "U"}

Levels = NDArray[np.uint8]


def levels(label: int, number: int, *, num_classes: int, height: int, width: int) -> Levels:
    """Return an image (H, W, 3): the colour of its class, and noise seeded by `label` and `number`."""
    color = np.array(colorsys.hsv_to_rgb(label / num_classes, 0.8, 0.8)) * 255
    noise = np.random.default_rng((label, number)).integers(-40, 41, (height, width, 3))
    return np.clip(color + noise, 0, 255).astype(np.uint8)


def write_image(path: Path, image_HW3: Levels) -> None:
    """Write an image in the format of the file extension; JPEG in the best quality."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file_format = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    Image.fromarray(image_HW3).save(path, format=file_format, quality=95)


def write_image_folder(
    root: Path,
    *,
    parts: Mapping[str, int] | None = None,
    classes: Sequence[str] = ("ant", "bee", "cow"),
    sizes: Sequence[tuple[int, int]] = ((20, 20),),
    suffixes: Sequence[str] = (".png", ".jpg"),
) -> Path:
    """Write `root`/<part>/<class>/<number><suffix> and return `root`.

    `parts` has the number of images per class of each part (default: 12 in train). Image n has the n-th of
    `sizes` (height, width) and of `suffixes`, cyclically.
    """
    for part, num_images in (parts or {"train": 12}).items():
        for label, name in enumerate(classes):
            for number in range(num_images):
                height, width = sizes[number % len(sizes)]
                image_HW3 = levels(
                    label,
                    number + 1000 * len(part),
                    num_classes=len(classes),
                    height=height,
                    width=width,
                )
                suffix = suffixes[number % len(suffixes)]
                write_image(root / part / name / f"{number:03d}{suffix}", image_HW3)
    return root


def write_cifar10(root: Path, *, images_per_batch: int = 40, test_images: int = 40) -> Path:
    """Write `root`/cifar-10-batches-py with five training batches and a test batch; return `root`."""
    folder = root / "cifar-10-batches-py"
    for number in range(1, 6):
        table = _cifar_table(number, images_per_batch, num_classes=10, key="labels")
        write_python2_pickle(folder / f"data_batch_{number}", table)
    table = _cifar_table(6, test_images, num_classes=10, key="labels")
    write_python2_pickle(folder / "test_batch", table)
    names = [name.encode() for name in CIFAR10_CLASSES]
    write_python2_pickle(folder / "batches.meta", {b"label_names": names, b"num_vis": 3072})
    return root


def write_cifar100(root: Path, *, train_images: int = 300, test_images: int = 100) -> Path:
    """Write `root`/cifar-100-python with fine and coarse classes; return `root`."""
    folder = root / "cifar-100-python"
    for number, (name, num_images) in enumerate((("train", train_images), ("test", test_images))):
        table = _cifar_table(number, num_images, num_classes=100, key="fine_labels")
        table[b"coarse_labels"] = [label // 5 for label in table[b"fine_labels"]]
        write_python2_pickle(folder / name, table)
    fine = [f"fine_{label:02d}".encode() for label in range(100)]
    coarse = [f"coarse_{label:02d}".encode() for label in range(20)]
    write_python2_pickle(folder / "meta", {b"fine_label_names": fine, b"coarse_label_names": coarse})
    return root


def write_tinyimagenet(
    root: Path, *, num_classes: int = 3, images_per_class: int = 12, test_per_class: int = 4
) -> Path:
    """Write `root`/tiny-imagenet-200 with its lists of names and annotations; return `root`."""
    folder = root / "tiny-imagenet-200"
    wnids = [f"n0144376{label}" for label in reversed(range(num_classes))]
    annotations: list[str] = []
    for label, wnid in enumerate(wnids):
        for number in range(images_per_class + test_per_class):
            image_HW3 = levels(label, number, num_classes=num_classes, height=64, width=64)
            if number < images_per_class:
                write_image(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", image_HW3)
            else:
                name = f"val_{len(annotations)}.JPEG"
                write_image(folder / "val" / "images" / name, image_HW3)
                annotations.append(f"{name}\t{wnid}\t0\t0\t63\t63")
        boxes = [f"{wnid}_{number}.JPEG\t0\t0\t63\t63" for number in range(images_per_class)]
        _write_lines(folder / "train" / wnid / f"{wnid}_boxes.txt", boxes)
    _write_lines(folder / "val" / "val_annotations.txt", annotations)
    _write_lines(folder / "wnids.txt", wnids)
    words = [f"{wnid}\tthing {label}, sort of" for label, wnid in enumerate(wnids)]
    _write_lines(folder / "words.txt", ["n00001740\tentity", *words])
    return root


def write_png_header(path: Path, *, height: int, width: int) -> Path:
    """Write a PNG with only a header of this size; return `path`."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", b""),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_python2_pickle(path: Path, value: object) -> None:
    """Write a pickle like Python 2 with numpy 1, the format of CIFAR; bytes become strings of Python 2."""
    content = bytearray(pickle.dumps(value, protocol=3))
    for opcode, _, place in pickletools.genops(bytes(content)):
        assert place is not None
        content[place] = ord(PYTHON2_OPCODES.get(opcode.code, opcode.code))
    content[1] = 2  # the protocol: no opcode of version 3 remains
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def _cifar_table(batch: int, num_images: int, *, num_classes: int, key: str) -> dict[bytes, Any]:
    labels = [number % num_classes for number in range(num_images)]
    images_NHW3 = [
        levels(label, 1000 * batch + number, num_classes=num_classes, height=32, width=32)
        for number, label in enumerate(labels)
    ]
    data_NP = np.stack(images_NHW3).transpose(0, 3, 1, 2).reshape(num_images, -1)
    return {
        b"batch_label": b"batch %d" % batch,
        key.encode(): labels,
        b"data": np.ascontiguousarray(data_NP),
        b"filenames": [b"image_%05d.png" % number for number in range(num_images)],
    }


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
