"""Model card of a registered encoder, in Markdown: description, evaluation, data, usage, limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune_jobs.intervals import wilson_interval

_SMALL_IMAGES = 64  # largest size for which networks have the small stem


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Facts of a model card. `metrics` are fractions, measured on `num_images` of their split."""

    model: str
    search: str
    trial: int
    commit: str | None
    dataset: str
    data_digest: str
    image_size: int
    class_names: Sequence[str]
    num_images: Mapping[str, int]
    feature_dim: int
    config: Mapping[str, Any]
    metrics: Mapping[str, float]


def model_card(facts: CardFacts) -> str:
    """Return the model card."""
    parts = [_head(facts), _figures(facts), _data(facts), _loading(facts), _use(facts), _origin(facts)]
    return "\n\n".join(parts) + "\n"


def intervals(metrics: Mapping[str, float], num_images: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """Return the 95 % Wilson interval of each accuracy, by the number of images of its split."""
    found = ((name, value, num_images.get(name.partition("/")[0])) for name, value in metrics.items())
    return {name: wilson_interval(value, count) for name, value, count in found if count}


def _head(facts: CardFacts) -> str:
    config = facts.config
    exits = list(config["model.exit_stages"])
    where = f"with an exit after stage {', '.join(map(str, exits))}" if exits else "without exits"
    return (
        f"# {facts.model}: an encoder of {facts.dataset}\n\n"
        f"A {config['model.backbone']} of width {config['model.width']}, {where}, trained on {facts.dataset} "
        f"({len(facts.class_names)} classes) with the objective `{config['loss.objective']}`. It maps "
        f"images of {facts.image_size} x {facts.image_size} pixels to {facts.feature_dim} features, for a "
        "linear classifier, nearest-neighbour search or fine-tuning."
    )


def _figures(facts: CardFacts) -> str:
    bounds = intervals(facts.metrics, facts.num_images)
    rows = [
        f"| `{name}` | {value:.4f} | {bounds[name][0]:.4f} to {bounds[name][1]:.4f} |"
        for name, value in sorted(facts.metrics.items())
        if name in bounds
    ]
    table = "\n".join(["| accuracy | value | 95 % interval |", "|---|---|---|", *rows])
    return (
        f"## Evaluation results\n\n{table}\n\n"
        "`top1`: linear probe on the features of the backbone. `exit<s>_top1`: linear probe on the exit "
        "after stage s. `ensemble_top1`: mean of the probabilities of all probes. `knn_top1`: nearest "
        "neighbours. Probes are trained on the training images only. The search selected by `val/` metrics; "
        "the test set was evaluated once, for this encoder. Intervals are Wilson intervals: they account "
        "for the sample of images, not for the seed."
    )


def _data(facts: CardFacts) -> str:
    sizes = ", ".join(f"{count} {split}" for split, count in facts.num_images.items())
    names = ", ".join(facts.class_names[:20]) + (", ..." if len(facts.class_names) > 20 else "")
    return (
        f"## Data\n\n{facts.dataset}: {sizes} images. Classes: {names}.\n\n"
        f"Digest of files, classes and split: `{facts.data_digest}`"
    )


def _loading(facts: CardFacts) -> str:
    uri, size = f"models:/{facts.model}/VERSION", facts.image_size
    return f"""## Usage

`VERSION` is the number of this version. `models:/{facts.model}@champion` is the current champion.

With MLflow and torch only. Images are float32 in [0, 1]; the model normalises them:

```python
import mlflow
import numpy as np

encoder = mlflow.pyfunc.load_model("{uri}")
features = encoder.predict(np.zeros((1, 3, {size}, {size}), np.float32))  # (1, {facts.feature_dim})
network = mlflow.pytorch.load_model("{uri}")  # as a torch module
```

With this project: verifies the hashes, accepts uint8 images too, and has the exits and class names:

```python
from tune_jobs.registry import load_encoder

encoder = load_encoder("{uri}")
features = encoder(images)
names = [encoder.class_names[i] for i in encoder.ensemble_logits(images).argmax(dim=1)]
```

{_torchvision(facts)}"""


def _torchvision(facts: CardFacts) -> str:
    backbone, width = str(facts.config["model.backbone"]), facts.config["model.width"]
    is_torchvision_network = width == 64 and facts.config["model.normalization"] in ("batch", "frozen")
    if not (backbone.startswith("resnet") and is_torchvision_network):
        return (
            "`encoder/backbone.safetensors` has the weights of the backbone under torchvision's names. They "
            "load into torchvision's networks if the shapes match "
            "(see `selfcon.export.torchvision_state_dict`)."
        )
    stem = (
        "network.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)\n"
        "network.maxpool = torch.nn.Identity()\n"
        if facts.image_size <= _SMALL_IMAGES
        else ""
    )
    return f"""The backbone as a torchvision network, for images normalised with `mean` and `std` of
`encoder/encoder.json`:

```python
import safetensors.torch
import torch
import torchvision

network = torchvision.models.{backbone}()
{stem}network.fc = torch.nn.Identity()
network.load_state_dict(safetensors.torch.load_file("encoder/backbone.safetensors"))
network.eval()
```"""


def _use(facts: CardFacts) -> str:
    return (
        "## Intended use and limits\n\n"
        f"Features of images like those of {facts.dataset}: the same content, the same preprocessing, about "
        f"{facts.image_size} pixels. The results above do not cover other images, other sizes or other "
        "classes. For the accuracy of single classes, see the confusion matrix of the trial's run. Imbalance "
        "and bias of the training images affect the features. The probabilities of the probes are not "
        "calibrated."
    )


def _origin(facts: CardFacts) -> str:
    fields = "\n".join(f"- `{name}`: {value}" for name, value in facts.config.items())
    commit = f", commit `{facts.commit}`" if facts.commit else ""
    return (
        f"## Provenance\n\nSearch `{facts.search}`, trial {facts.trial}{commit}. "
        f"Its complete configuration:\n\n{fields}"
    )
