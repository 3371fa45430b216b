"""The parts of one training run, put together from its configuration, and its state on disk and back."""

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
    """What a run is made of, the metrics of its epochs so far (0 is the untrained network), and its losses.

    `network` is what is trained: the encoder itself, or the encoder replicated over the ranks. `losses` are
    those of the steps since the last finished epoch, `confusions` has the newest evaluation's, by its epoch.
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
        """The last epoch that is over."""
        return len(self.history) - 1

    @property
    def step(self) -> int:
        """The number of steps taken."""
        return self.epoch * self.steps_per_epoch + len(self.losses)

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
            step=self.step,
            history=list(self.history),
            losses=list(self.losses),
            scaler=self.scaler.state_dict(),
            cost=dict(self.costs.totals),
            confusions={str(epoch): found.as_json() for epoch, found in self.confusions.items()},
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
            # In the parameter's layout, in which the first step would have made it.
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
    """Return a run that has not trained yet: data loaded, encoder initialised from `config.seed`.

    One that is `resumed` gets all its weights from a checkpoint: `model.weights` is not read again.

    Raises `ConfigError` for a data set that cannot be used, a batch larger than its training part,
    `model.weights` that do not fit, and a precision or a compilation that this machine cannot do.
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
        encoder.to(memory_format=torch.channels_last)  # the images follow the first convolution's weights
    costs = CostMeter(
        device=device,
        encoder_parameters=encoder_parameters(encoder),
        forward_macs=forward_macs(encoder, image_size=dataset.image_size),
    )
    if config.runtime.compile:
        encoder.compile(dynamic=False)  # in place: the names in its state stay as they are
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
    """Raise `ConfigError` where torch.compile does not work. A tiny function is tried out, for seconds.

    On CPUs it needs a C++ compiler, on GPUs Triton and a C compiler.
    """
    try:
        torch.compile(torch.sin)(torch.ones(1, device=device))
    except Exception as error:  # what is missing fails in any way
        reason = str(error).splitlines()[0]
        expected = "false, or a machine on which torch.compile works (on CPUs it needs a C++ compiler)"
        raise ConfigError("runtime.compile", expected, f"true, and {reason}") from error


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
