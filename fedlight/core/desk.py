"""The server's own held-out data at work: judging weights, and training on them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.data import extract_batch_size
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor

from fedlight.core.client import run_client
from fedlight.core.evaluation import run_forward
from fedlight.core.isolation import isolated_module, isolated_randomness
from fedlight.core.patch import patched
from fedlight.core.processes import Processes
from fedlight.core.records import Records
from fedlight.core.seeds import SERVER, derive_seed
from fedlight.core.slots import Local, NormPolicy
from fedlight.core.standin import NoTrainer
from fedlight.core.types import ClientData, ClientTask, FederatedData, State, Update
from fedlight.errors import ConfigError, UnsupportedClientError

Half = Literal["all", "train", "holdout"]
"""Which of the server's examples: all, or one of two halves that don't overlap, one to train on and one to judge by."""

_NO_TRAINER = "the server's own data are judged without one: leave it out of validation_step and its hooks"


class ServerDesk:
    """Judges weights by the server's own examples, and trains on them; the global module is never touched.

    Every process does the same on the same examples. Accelerators may round differently, so what follows from it for
    all is taken from the first process: by the server for a cohort's scores and a server update, by :meth:`agreed` for
    what a part makes of :meth:`watch`. The global generators are left as they were found.

    Args:
        client: the global module; copied at the first use.
        data: the federation; it must hold a server's split.
        norm: what running statistics do.
        seed: the run's seed.

    Raises:
        ConfigError: the data hold nothing for the server.
    """

    def __init__(self, client: pl.LightningModule, data: FederatedData, norm: NormPolicy, seed: int) -> None:
        own = data.server()
        if own is None:
            raise ConfigError("the server holds no examples: set data.server_fraction above 0 (0.05, say)")
        self._client = client
        self._data = data
        self._norm = norm
        self._seed = seed
        self._copy: pl.LightningModule | None = None
        self._parts: dict[Half, ClientData] = {"all": own}

    @property
    def num_examples(self) -> int:
        """Number of the server's examples, both halves."""
        return self._parts["all"].num_examples

    @property
    def label_counts(self) -> Tensor | None:
        """int64[num_classes] of all its examples; None where there are no class labels."""
        return self._parts["all"].label_counts()

    def client_label_counts(self, client: int) -> Tensor | None:
        """Return int64[num_classes], what a client tells of its labels; None where there are no class labels."""
        return self._data.client(client).label_counts()

    def examples(self, half: Half = "all") -> ClientData:
        """Return the server's examples, or one half of them; raises DataError where the data can't be halved."""
        if half not in self._parts:
            self._parts["train"], self._parts["holdout"] = self._parts["all"].halves()
        return self._parts[half]

    def evaluate(self, weights: Mapping[str, Tensor], half: Half = "all") -> dict[str, float]:
        """Return what the client's ``validation_step`` logs of these weights, by name, averaged over the examples.

        The hooks of a validation batch and epoch are called too, those around the whole run aren't. Deterministic:
        batches come in one order, and random draws in the module derive from the run's seed.

        Args:
            weights: full state dict, parameters and buffers.
            half: which examples.

        Raises:
            UnsupportedClientError: the client has no ``validation_step``, or needs a Trainer in it.
        """
        if not is_overridden("validation_step", self._client, pl.LightningModule):
            raise UnsupportedClientError(
                f"{type(self._client).__name__} has no validation_step, by which the server's data are judged: write "
                "one that logs val/loss, and val/accuracy for classes"
            )
        records = Records()
        with self._ready(weights, records) as (module, device):
            _validate(module, self.examples(half).in_order(), records, device)
            records.end_epoch(reset=True)
        return records.results()

    def watch(
        self,
        weights: Mapping[str, Tensor],
        layers: Iterable[str],
        look: Callable[[str, Tensor], None],
        max_examples: int,
        half: Half = "all",
    ) -> None:
        """Show the outputs of some layers in evaluation, batch by batch.

        Args:
            weights: full state dict, parameters and buffers.
            layers: names of submodules of the client.
            look: called with a layer's name and its output, of ``max_examples`` examples in all at most.
            max_examples: > 0; the first ones of the examples in order.
            half: which examples.
        """
        with self._ready(weights, Records()) as (module, device):
            left = max_examples

            def show(name: str, output: Tensor) -> None:
                look(name, output[:left])

            for name in layers:
                module.get_submodule(name).register_forward_hook(
                    lambda _, inputs, output, name=name: show(name, output)
                )
            for batch in self.examples(half).in_order():
                _forward(module, batch, device)
                left -= extract_batch_size(batch)
                if left <= 0:
                    return

    def agreed(self, value: Tensor) -> Tensor:
        """Return the first process's ``value`` (on the CPU) on every process; all must ask."""
        return Processes().from_first(value)

    def score(self, weights: Mapping[str, Tensor], metric: str, half: Half = "all") -> float:
        """Return one number of :meth:`evaluate`; raises ConfigError where the client doesn't log that name."""
        told = self.evaluate(weights, half)
        if metric not in told:
            raise ConfigError(
                f"{type(self._client).__name__}.validation_step logs {', '.join(sorted(told)) or 'nothing'}, not "
                f"{metric}: log it there, or name another metric"
            )
        return told[metric]

    def train(self, weights: Mapping[str, Tensor], local: Local, round_idx: int, half: Half = "all") -> Update:
        """Train from these weights on the server's examples as a client would, and return Δ in full shape.

        Args:
            weights: full state dict to start from; not changed.
            local: how to train.
            round_idx: round; the order of batches and the learning rate's schedule follow from it.
            half: which examples.
        """
        module, _ = self._module(weights)
        local.check(module)  # it learns the schedule from the module
        task = ClientTask(
            client=SERVER,
            round_idx=round_idx,
            seed=self._seed,
            weights=weights,
            masks=None,
            lr_factor=local.lr_factor(round_idx),
            statistics=frozenset(),
            local=local,
            norm=self._norm,
            compression=None,
        )
        return run_client(task, module, self.examples(half))

    @contextmanager
    def _ready(
        self, weights: Mapping[str, Tensor], records: Records
    ) -> Iterator[tuple[pl.LightningModule, torch.device]]:
        """Lend the copy with these weights, set up for an evaluation."""
        module, device = self._module(weights)
        trainer = NoTrainer(type(module).__name__, _NO_TRAINER)
        trainer.training = False
        with ExitStack() as kept:
            kept.enter_context(isolated_randomness(derive_seed(self._seed, -1, SERVER, "desk"), device))
            kept.enter_context(isolated_module(module))
            kept.enter_context(patched(module, log=records.log, _trainer=trainer))
            kept.enter_context(torch.no_grad())
            module.load_state_dict(weights)
            module.eval()
            self._norm.before_evaluation(module, self._parts["all"], lambda batch: _forward(module, batch, device))
            yield module, device

    def _module(self, weights: Mapping[str, Tensor]) -> tuple[pl.LightningModule, torch.device]:
        device = next(iter(weights.values())).device
        if self._copy is None:
            self._copy = copy.deepcopy(self._client)
            self._copy.zero_grad()
        return self._copy.to(device), device


def merged(weights: Mapping[str, Tensor], update: Mapping[str, Tensor], step: float = 1.0) -> State:
    """Return weights + step · update, in the dtype of the weights; entries without an update as they are."""
    return {
        name: value + (step * update[name]).to(value) if name in update else value for name, value in weights.items()
    }


def _validate(module: pl.LightningModule, batches: Iterator[Any], records: Records, device: torch.device) -> None:
    takes_idx = is_param_in_hook_signature(module.validation_step, "batch_idx", min_args=2)
    module.on_validation_epoch_start()
    for batch_idx, sent in enumerate(batches):
        batch = _transfer(module, sent, device)
        records.begin_batch(batch)
        module.on_validation_batch_start(batch, batch_idx)
        outputs = module.validation_step(*((batch, batch_idx) if takes_idx else (batch,)))
        module.on_validation_batch_end(outputs, batch, batch_idx)
    records.begin_batch(None)
    module.on_validation_epoch_end()


def _transfer(module: pl.LightningModule, batch: Any, device: torch.device) -> Any:
    batch = module.on_before_batch_transfer(batch, 0)
    batch = module.transfer_batch_to_device(batch, device, 0)
    return module.on_after_batch_transfer(batch, 0)


def _forward(module: pl.LightningModule, batch: Any, device: torch.device) -> None:
    run_forward(module, _transfer(module, batch, device))
