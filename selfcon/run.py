"""The parts of one training run, put together from its configuration, and its state on disk and back."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from selfcon.accounting import CostMeter
from selfcon.checkpoint import TrainingState, load_network
from selfcon.config import TrainConfig
from selfcon.data.batches import num_steps
from selfcon.data.dataset import ImageDataset, load_dataset
from selfcon.distributed import world_size
from selfcon.errors import CheckpointError
from selfcon.model import SelfConEncoder, build_encoder
from selfcon.model.cost import encoder_parameters, forward_macs
from selfcon.model.weights import load_weights, misfit
from selfcon.objective import num_classes_of_heads
from selfcon.optim import build_optimizer


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run is made of, and the metrics of its epochs so far (0 is the untrained network).

    `network` is what is trained: the encoder itself, or the encoder replicated over the ranks.
    """

    config: TrainConfig
    dataset: ImageDataset
    device: torch.device
    dtype: torch.dtype
    encoder: SelfConEncoder
    network: nn.Module
    optimizer: torch.optim.SGD
    steps_per_epoch: int
    costs: CostMeter
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """The last epoch that is over."""
        return len(self.history) - 1

    def state(self) -> TrainingState:
        """Return what a checkpoint holds; its tensors are the run's own, not copies."""
        momentum = {
            name: self.optimizer.state[parameter].get("momentum_buffer")
            for name, parameter in self.encoder.named_parameters()
        }
        return TrainingState(
            model=self.encoder.state_dict(),
            optimizer={name: buffer for name, buffer in momentum.items() if buffer is not None},
            epoch=self.epoch,
            step=self.epoch * self.steps_per_epoch,
            history=list(self.history),
            cost=dict(self.costs.totals),
        )

    def restore(self, state: TrainingState) -> None:
        """Put a run that was only just started where `state` was taken.

        Raises `CheckpointError`, which names keys, for the state of another network or optimiser.
        """
        load_network(self.encoder, state.model, source="the checkpoint")
        parameters = dict(self.encoder.named_parameters())
        # Before the first step, and without momentum, there is none of any parameter.
        difference = misfit(parameters, state.optimizer) if state.optimizer else None
        if difference:
            raise CheckpointError(f"the checkpoint: of another optimiser: {difference}")
        for name, momentum in state.optimizer.items():
            self.optimizer.state[parameters[name]]["momentum_buffer"] = momentum.to(self.device)
        self.history[:] = state.history
        self.costs.restore(state.cost)


def start_run(config: TrainConfig, *, resumed: bool = False) -> Run:
    """Return a run that has not trained yet: data loaded, encoder initialised from `config.seed`.

    One that is `resumed` gets all its weights from a checkpoint: `model.weights` is not read again.

    Raises `ConfigError` for a data set that cannot be used, a batch larger than its training part, or
    `model.weights` that do not fit.
    """
    dataset = load_dataset(config.data)
    steps_per_epoch = num_steps(len(dataset.train), config.optim.global_batch_size)
    device = _device()
    dtype = torch.float64 if config.optim.precision == "fp64" else torch.float32
    encoder = _initialised_encoder(config, dataset)
    if config.model.weights is not None and not resumed:
        load_weights(encoder, Path(config.model.weights))
    encoder.to(device=device, dtype=dtype)
    costs = CostMeter(
        device=device,
        encoder_parameters=encoder_parameters(encoder),
        forward_macs=forward_macs(encoder, image_size=dataset.image_size),
    )
    return Run(
        config=config,
        dataset=dataset,
        device=device,
        dtype=dtype,
        encoder=encoder,
        network=_replicated(encoder, device),
        optimizer=build_optimizer(encoder.parameters(), config.optim),
        steps_per_epoch=steps_per_epoch,
        costs=costs,
    )


def _device() -> torch.device:
    """This rank's accelerator, if there is one, made the current one, where NCCL's tensors must lie.

    Launchers number the ranks of a machine in LOCAL_RANK.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _initialised_encoder(config: TrainConfig, dataset: ImageDataset) -> SelfConEncoder:
    """Built on the CPU, so that a seed is one network on every device; torch's generator stays as it was."""
    num_classes = num_classes_of_heads(config, num_classes=len(dataset.class_names))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        return build_encoder(config.model, image_size=dataset.image_size, num_classes=num_classes)


def _replicated(encoder: SelfConEncoder, device: torch.device) -> nn.Module:
    if world_size() == 1:
        return encoder
    device_ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(encoder, device_ids=device_ids)
