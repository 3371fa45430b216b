"""Write images in the layout for your own data: python examples/own_data/write_images.py [FOLDER]

Writes scikit-learn's digits as PNGs into FOLDER (data/own_digits): train/<class>/ and test/<class>/. There is
no val/, so trials are evaluated on images split from train/. Then run:

    python launch.py --space examples/own_data/own_data.yaml
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SIZE = 16  # pixels
EVERY_FIFTH = 5  # image is a test image


def main(folder: str = "data/own_digits") -> None:
    """Write the images, one folder for each class."""
    images, labels = load_digits(return_X_y=True)
    for index, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        part = "test" if index % EVERY_FIFTH == 0 else "train"
        path = Path(folder, part, f"digit-{label}", f"{index:04d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        levels = np.round(pixels.reshape(8, 8) * 255 / 16).astype(np.uint8)
        Image.fromarray(levels).resize((SIZE, SIZE), Image.Resampling.BILINEAR).save(path)
    print(f"{folder}: {len(images)} images of {len(set(labels))} classes")
    print("next: python launch.py --space examples/own_data/own_data.yaml")


if __name__ == "__main__":
    main(*sys.argv[1:])
