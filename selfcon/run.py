"""Parts of one training run, created from its configuration; its state to and from checkpoints."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from selfcon.accounting import CostMeter
from selfcon.checkpoints.folder import load_network
from selfcon.checkpoints.state import TrainingState
from selfcon.config import TrainConfig
from selfcon.data.batches import num_steps
from selfcon.data.dataset import ImageDataset, load_dataset
from selfcon.distributed import world_size
from selfcon.errors import CheckpointError, ConfigError
from selfcon.evaluation.confusion import Confusion
from selfcon.losses.objective import num_classes_of_heads
from selfcon.model import SelfConEncoder, build_encoder
from selfcon.model.cost import encoder_parameters, forward_macs
from selfcon.model.weights import load_weights, misfit
from selfcon.optim import build_optimizer
from selfcon.precision import check_precision, dtype_of_weights, gradient_scaler


@dataclass(frozen=True, kw_only=True)
class Run:
    """Parts of a run, the metrics of its epochs so far (0 is the untrained network), and its losses.

    `network` is the trained module: the encoder, or its DistributedDataParallel wrapper. `losses` are those
    of the steps since the last finished epoch; `confusions` has the newest confusion matrix by its epoch.
    """

    config: TrainConfig
    dataset: ImageDataset
    device: torch.device
    dtype: torch.dtype
    encoder: SelfConEncoder
    network: nn.Module
    optimizer: torch.optim.SGD
    scaler: torch.amp.GradScaler
    steps_per_epoch: int
    costs: CostMeter
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    confusions: dict[int, Confusion] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """The last finished epoch."""
        return len(self.history) - 1

    @property
    def step(self) -> int:
        """The number of steps taken."""
        return self.epoch * self.steps_per_epoch + len(self.losses)

    def state(self) -> TrainingState:
        """Return the state for a checkpoint; its tensors are not copies."""
        momentum = {
            name: self.optimizer.state[parameter].get("momentum_buffer")
            for name, parameter in self.encoder.named_parameters()
        }
        return TrainingState(
            model=self.encoder.state_dict(),
            optimizer={name: buffer for name, buffer in momentum.items() if buffer is not None},
            epoch=self.epoch,
            step=self.step,
            history=list(self.history),
            losses=list(self.losses),
            scaler=self.scaler.state_dict(),
            cost=dict(self.costs.totals),
            confusions={str(epoch): found.as_json() for epoch, found in self.confusions.items()},
        )

    def restore(self, state: TrainingState) -> None:
        """Restore a newly started run from `state`.

        Raises `CheckpointError` with the differing keys if it is the state of another network or optimiser.
        """
        load_network(self.encoder, state.model, source="the checkpoint")
        parameters = dict(self.encoder.named_parameters())
        # There is no momentum before the first step, or if it is disabled.
        difference = misfit(parameters, state.optimizer) if state.optimizer else None
        if difference:
            raise CheckpointError(f"the checkpoint: of another optimiser: {difference}")
        for name, momentum in state.optimizer.items():
            # In the memory layout of the parameter, as the first step would create it.
            buffer = torch.empty_like(parameters[name]).copy_(momentum).detach()
            self.optimizer.state[parameters[name]]["momentum_buffer"] = buffer
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state.scaler)
        self.history[:] = state.history
        self.losses[:] = state.losses
        self.confusions.update(
            {int(epoch): Confusion.from_json(found) for epoch, found in state.confusions.items()}
        )
        self.costs.restore(state.cost)


def start_run(config: TrainConfig, *, resumed: bool = False) -> Run:
    """Return a new run: data loaded, encoder initialised from `config.seed`.

    If `resumed`, all weights will come from a checkpoint, so `model.weights` is not read.

    Raises `ConfigError` for a data set that cannot be used, a batch larger than its training part,
    `model.weights` that do not fit, and a precision or compilation that this machine does not support.
    """
    device = _device()
    check_precision(device, config.optim.precision)
    if config.runtime.compile:
        check_compiler(device)
    dataset = load_dataset(config.data)
    steps_per_epoch = num_steps(len(dataset.train), config.optim.global_batch_size)
    dtype = dtype_of_weights(config.optim.precision)
    encoder = _initialised_encoder(config, dataset)
    if config.model.weights is not None and not resumed:
        load_weights(encoder, Path(config.model.weights))
    encoder.to(device=device, dtype=dtype)
    if config.runtime.channels_last:
        encoder.to(memory_format=torch.channels_last)  # images follow the weights of the first layer
    costs = CostMeter(
        device=device,
        encoder_parameters=encoder_parameters(encoder),
        forward_macs=forward_macs(encoder, image_size=dataset.image_size),
    )
    if config.runtime.compile:
        encoder.compile(dynamic=False)  # in place, so that the keys of its state dict do not change
    return Run(
        config=config,
        dataset=dataset,
        device=device,
        dtype=dtype,
        encoder=encoder,
        network=_replicated(encoder, device),
        optimizer=build_optimizer(encoder.parameters(), config.optim),
        scaler=gradient_scaler(device, config.optim.precision),
        steps_per_epoch=steps_per_epoch,
        costs=costs,
    )


def check_compiler(device: torch.device) -> None:
    """Raise `ConfigError` if torch.compile does not work, after compiling a tiny function (seconds).

    On CPUs it needs a C++ compiler, on GPUs Triton and a C compiler.
    """
    try:
        torch.compile(torch.sin)(torch.ones(1, device=device))
    except Exception as error:  # a missing compiler can raise any exception
        reason = str(error).splitlines()[0]
        expected = "false, or a machine on which torch.compile works (on CPUs it needs a C++ compiler)"
        raise ConfigError("runtime.compile", expected, f"true, and {reason}") from error


def _device() -> torch.device:
    """The accelerator of this rank, if there is one, set as the current device for NCCL.

    LOCAL_RANK is the index of the rank on its machine.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _initialised_encoder(config: TrainConfig, dataset: ImageDataset) -> SelfConEncoder:
    """Encoder initialised on the CPU, so that a seed gives the same network on every device. Keeps torch's
    generator."""
    num_classes = num_classes_of_heads(config, num_classes=len(dataset.class_names))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        return build_encoder(config.model, image_size=dataset.image_size, num_classes=num_classes)


def _replicated(encoder: SelfConEncoder, device: torch.device) -> nn.Module:
    if world_size() == 1:
        return encoder
    device_ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(encoder, device_ids=device_ids)
