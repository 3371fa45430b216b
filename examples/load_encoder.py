"""Use a registered encoder of the digits: python examples/load_encoder.py [MODEL]

MODEL defaults to models:/selfcon-digits@champion. Run it in the folder of mlflow.db, or with
MLFLOW_TRACKING_URI set. Loads the encoder in two ways, compares their features, and finds the training images
nearest to some test images.
"""

import os
import sys

import mlflow
import numpy as np
import torch
from torch.nn import functional

from selfcon.config import DataConfig
from selfcon.data.dataset import load_dataset
from tune_jobs.registry import load_encoder

NUM_SHOWN, NUM_NEIGHBOURS = 5, 3


def main(model: str = "models:/selfcon-digits@champion") -> None:
    """Print shapes, the difference between both ways of loading, and the classes of nearest neighbours."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"))
    packaged = mlflow.pyfunc.load_model(model)  # does not need this project
    encoder = load_encoder(model)  # verifies every SHA-256; also has exits and class names

    _, _, image_size, _ = packaged.metadata.signature.inputs.inputs[0].shape
    dataset = load_dataset(DataConfig(image_size=image_size))
    (train_images,) = dataset.train.plain([torch.arange(len(dataset.train))])  # uint8
    (test_images,) = dataset.test.plain([torch.arange(len(dataset.test))])

    with torch.no_grad():
        train, test = (functional.normalize(encoder(images), dim=1) for images in (train_images, test_images))
    pixels = test_images[:NUM_SHOWN].numpy().astype(np.float32) / 255
    difference = np.abs(packaged.predict(pixels) - encoder(test_images[:NUM_SHOWN]).detach().numpy()).max()
    print(f"features of {len(test)} test images: {tuple(test.shape)}; pyfunc differs by {difference:.1e}")

    neighbours = (test @ train.T).topk(NUM_NEIGHBOURS, dim=1).indices
    found = dataset.train.labels_N[neighbours]
    for label, classes in zip(dataset.test.labels_N[:NUM_SHOWN], found, strict=False):
        print(f"an image of {label}: its nearest training images are {classes.tolist()}")
    accuracy = (found[:, 0] == dataset.test.labels_N).double().mean()
    print(f"the nearest training image has the right class for {accuracy:.4f} of the test images")


if __name__ == "__main__":
    main(*sys.argv[1:])
