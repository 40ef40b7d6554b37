"""The server: a LightningModule whose training step is one communication round."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable

from fedlight.core.algorithm import Algorithm
from fedlight.core.checkpoint import load_init_weights, read_checkpoint, write_checkpoint
from fedlight.core.clock import Clock
from fedlight.core.cohort import Cohort
from fedlight.core.desk import ServerDesk
from fedlight.core.dispatcher import Dispatcher
from fedlight.core.evaluation import call_hook, example_call, lend_hooks, refuse_unheard, run_forward
from fedlight.core.expiry import Expiry
from fedlight.core.fleet import Fleet
from fedlight.core.memory import ClientMemory
from fedlight.core.processes import Processes
from fedlight.core.round_record import RoundRecord
from fedlight.core.slots import NoServerUpdate
from fedlight.core.standstill import Standstill, named
from fedlight.core.types import FederatedData, Job, Report, RoundState, State
from fedlight.errors import ConfigError
from fedlight.submodels import SubmodelPlan


def plain_sgd(params: Any) -> torch.optim.Optimizer:
    """Return SGD with learning rate 1, under which the server step adds the aggregate update as it is (FedAvg)."""
    return torch.optim.SGD(params, lr=1.0)


class Server(pl.LightningModule):
    """One model trained over a fleet of unequal clients; under a Trainer one epoch is one round.

    The round sets the gradient of the global parameters to minus the aggregate update and steps the server
    optimizer: θ ← θ - lr · (-U). SGD with lr 1 is FedAvg, with momentum FedAvgM, Adam is FedAdam (Reddi et al. 2021,
    Adaptive Federated Optimization, algorithm 2). ``global_step`` counts rounds, and checkpoints, resume, loggers,
    early stopping and several processes are Lightning's own. Evaluation is the client's own: its ``validation_step``,
    ``test_step``, the hooks around them and those of their batches are called on the global model.

    Args:
        client: the network to train and how a client trains it: any LightningModule with ``example_input_array``.
            It is the global model, in full size.
        algorithm: one choice per slot.
        fleet: which devices the clients are.
        server_optimizer: from parameters to the optimizer that applies the aggregate; None: SGD with lr 1.
        server_lr_scheduler: stepped once per round.
        protect: name patterns (``fnmatch``) of layers whose units are never removed.
        init_weights: checkpoint or state dict to start from; read when the first fit or evaluation begins, and not at
            all where a checkpoint is loaded, so a run resumes without it.
        seed: every random draw of the run derives from it.
        state_ttl_s: simulated seconds after its last update or lost job (from its dispatch) after which what is kept
            of a client (its contribution and memory, what parts have learnt of it) is dropped, > 0; None: never.

    Attributes:
        plan: index maps of the client's architecture; known after ``setup``.
        clock: simulated time and the jobs in flight.
        contributions: the last contribution score of every client that ever had one.
        memory: what clients keep from round to round.
        expiry: who has been silent for too long.
        last_round: record of the round that has just ended.
        run_config: the run's configuration as YAML, carried in checkpoints.
    """

    plan: SubmodelPlan

    def __init__(
        self,
        client: pl.LightningModule,
        algorithm: Algorithm,
        fleet: Fleet,
        server_optimizer: OptimizerCallable | None = None,
        server_lr_scheduler: LRSchedulerCallable | None = None,
        protect: list[str] | None = None,
        init_weights: str | None = None,
        seed: int = 0,
        state_ttl_s: float | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.client = client
        self.algorithm = algorithm
        self.fleet = fleet
        self.server_optimizer = server_optimizer or plain_sgd
        self.server_lr_scheduler = server_lr_scheduler
        self.protect = list(protect or ())
        self.seed = seed
        self.round_idx = 0
        self.clock = Clock()
        self.memory = ClientMemory()
        self.expiry = Expiry(state_ttl_s)
        self._desk: ServerDesk | None = None
        self.contributions: dict[int, float] = {}
        self.last_round: RoundRecord | None = None
        self.run_config: str | None = None
        self._init_weights = init_weights
        self._told_rejected: set[int] = set()
        lend_hooks(client, self)

    # Lightning's hooks --------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Trace the client's architecture once; in a fit also check the parts and draw the fleet.

        Raises:
            ConfigError: a precision other than 32-true, or parts that don't go with these data.
            UnsupportedClientError: the client overrides a hook that nobody would call.
            UnsupportedModelError: submodels of the client would not be exact.
        """
        refuse_unheard(self.client)
        if self._trainer is not None and self.trainer.precision != "32-true":
            raise ConfigError(
                f"trainer.precision is {self.trainer.precision}, but clients train and updates merge in 32-true; "
                "leave it out"
            )
        if not hasattr(self, "plan"):
            self.plan = SubmodelPlan.trace(self.client, example_call(self.client), protect=self.protect)
        if stage != "fit":
            return
        num_clients = len(self.data.num_examples)
        for part in self.algorithm.slots().values():
            part.meet(self.algorithm.slots())
        self.algorithm.local.check(self.client)
        self.algorithm.norm.check(self.client, self.data.server())
        self.algorithm.schedule.check(num_clients)
        self._desk = self._make_desk()
        self.fleet.setup(num_clients, self.seed)
        if not len(self.fleet.candidates(0.0)) and self.fleet.next_up_s(0.0) is None:
            raise ConfigError(
                f"model.fleet: no client of {type(self.fleet).__name__} is ever up, so nobody could train: check its "
                "availability"
            )
        self._dispatcher = Dispatcher(self.algorithm, self.plan, self.data, self.fleet, self.clock)
        self._dispatcher.check_memory()
        self.algorithm.schedule.check_times(self._dispatcher.quickest_s())
        self._standstill = Standstill(num_clients)
        self._cohort = Cohort(self.algorithm, self.plan, self.client, self.data, Processes(), self.memory)

    def configure_optimizers(self) -> Any:
        """Return the server optimizer over the trainable global parameters, with its schedule by round.

        Raises:
            CheckpointError: ``init_weights`` is missing or doesn't fit.
            ConfigError: the schedule waits for a metric.
        """
        # The first hook after a checkpoint, if any, has been taken back, and the last before callbacks write files.
        self._start_from_init_weights()
        optimizer = self.server_optimizer([p for p in self.client.parameters() if p.requires_grad])
        if self.server_lr_scheduler is None:
            return optimizer
        scheduler = self.server_lr_scheduler(optimizer)
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise ConfigError(
                "model.server_lr_scheduler is ReduceLROnPlateau, which waits for a metric that no round gives it; "
                "choose a schedule by round, for example torch.optim.lr_scheduler.CosineAnnealingLR"
            )
        return [optimizer], [scheduler]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Run one communication round."""
        started = time.perf_counter()
        self._forget(self.expiry.expired(self.clock.now_s, self.clock.busy))
        state = self.round_state()
        finished = self._advance(state)
        aggregate, reports = self._cohort.aggregate(state, finished, self.device)
        self._cohort.settle(state, self.clock.jobs(), self.device)
        self._credit(state, aggregate, reports)
        self._step(aggregate)
        self._server_update(state, reports, aggregate)
        parts = self.algorithm
        for part in (parts.selection, parts.ratio, parts.local, parts.compression):
            part.observe(state, reports)
        lost = self.clock.take_lost()
        self.expiry.hear(reports, lost)
        self._record(state, finished, reports, lost, time.perf_counter() - started)
        self.round_idx += 1

    def on_train_epoch_end(self) -> None:
        """Step the server's learning-rate schedule: one epoch is one round."""
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler):
            scheduler.step()

    def on_validation_start(self) -> None:
        """Ready the normalisation layers for evaluation, then call the client's own hook."""
        self._prepare_evaluation()
        call_hook(self.client, self, "on_validation_start")

    def on_test_start(self) -> None:
        """Ready the normalisation layers for evaluation, then call the client's own hook."""
        self._prepare_evaluation()
        call_hook(self.client, self, "on_test_start")

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load weights as any module does; they take the place of ``init_weights``."""
        self._init_weights = None
        return super().load_state_dict(state_dict, *args, **kwargs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a resumed run needs: the parts' memory, the clock, the jobs in flight, the round."""
        checkpoint["fedlight"] = write_checkpoint(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back; raises CheckpointError when it is of another architecture or algorithm."""
        read_checkpoint(self, checkpoint)

    # One round, step by step --------------------------------------------------------------------------------------

    @property
    def data(self) -> FederatedData:
        """The clients' data: the Trainer's datamodule."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, FederatedData):
            raise ConfigError(
                f"the Trainer's datamodule is {type(data).__name__}, which holds no clients; "
                "pass a fedlight.data.FederatedDataModule as datamodule"
            )
        return data

    def round_state(self) -> RoundState:
        """Return what the server knows as the round begins."""
        return RoundState(
            round_idx=self.round_idx,
            seed=self.seed,
            now_s=self.clock.now_s,
            plan=self.plan,
            weights=self.client.state_dict(),
            num_examples=self.data.num_examples,
            price=self._dispatcher.price,
            desk=self._desk,
            contributions=dict(self.contributions),
            device=self.fleet.device,
            expected_s=lambda client, work: self.fleet.expected_timing(client, work, self.clock.now_s).total_s,
        )

    def _advance(self, state: RoundState) -> list[Job]:
        """Let simulated time run until the server should move; end the run after this round if nobody is left."""
        self._dispatcher.begin()

        def dispatch(count: int) -> int:
            return self._dispatcher.send(replace(state, now_s=self.clock.now_s), count)

        finished = self.algorithm.schedule.advance(self.clock, dispatch)
        unfit, is_stranded = self._dispatcher.unfit, self._dispatcher.is_stranded
        still = self._standstill
        for line in still.watch(state.round_idx, state.now_s, self.clock, len(finished), unfit, is_stranded):
            self.print(line)
        if still.is_over:
            self.trainer.should_stop = True
        return finished

    def _forget(self, clients: Sequence[int]) -> None:
        """Drop what is kept of clients that have expired."""
        if clients:
            self.memory.forget(clients)
            for client in clients:
                self.contributions.pop(client, None)
            for part in self.algorithm.slots().values():
                part.forget(clients)

    def _step(self, aggregate: State) -> None:
        """Step the server optimizer on minus the aggregate; buffers take their part of it directly.

        A parameter without an aggregate (nobody came back, or every update was left out) has no gradient, so momentum
        doesn't carry it on; the optimizer is still stepped, since ``global_step`` counts rounds.
        """
        for name, parameter in self.client.named_parameters():
            if parameter.requires_grad:
                update = aggregate.get(name)
                parameter.grad = None if update is None else update.neg().to(parameter)
        optimizer = self.optimizers()
        assert isinstance(optimizer, pl.core.optimizer.LightningOptimizer)  # noqa: S101 - configure_optimizers returns one
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for name, buffer in self.client.named_buffers():
                if name in aggregate:
                    buffer += aggregate[name].to(buffer)

    def _credit(self, state: RoundState, aggregate: State, reports: Sequence[Report]) -> None:
        """Remember what every client was worth, and let the round's clients have what that earns them."""
        parts = self.algorithm
        scores = {report.client: report.contribution for report in reports if report.contribution is not None}
        self.contributions.update(scores)
        parts.contribution.observe(state, scores)
        parameters = {name for name, _ in self.client.named_parameters()}
        parts.download.observe(
            state,
            {name: value for name, value in aggregate.items() if name in parameters},
            {name: value for name, value in aggregate.items() if name not in parameters},
            parts.contribution.weights(state, [report.client for report in reports if report.weight > 0]),
        )

    def _server_update(self, state: RoundState, reports: list[Report], aggregate: State) -> None:
        if isinstance(self.algorithm.server_update, NoServerUpdate):
            return
        after = self.algorithm.server_update.apply(state, reports, aggregate, self.client.state_dict())
        self.client.load_state_dict(Processes().tensors_from_first(after))

    def _make_desk(self) -> ServerDesk | None:
        """Return the server's desk, if it holds data; raises ConfigError if a part needs it and there is none."""
        if self.data.server() is not None:
            return ServerDesk(self.client, self.data, self.algorithm.norm, self.seed)
        for slot, part in self.algorithm.slots().items():
            if part.needs_server_data:
                raise ConfigError(
                    f"{slot}: {type(part.asks_server_data()).__name__} needs server data: set data.server_fraction "
                    "above 0 (0.05, say)"
                )
        return None

    def _record(
        self, state: RoundState, finished: Sequence[Job], reports: list[Report], lost: list[Job], wall_s: float
    ) -> None:
        sparsity = [job.coverage.layer_sparsity() for job in finished]
        names = dict.fromkeys(name for one in sparsity for name in one)
        self.last_round = RoundRecord(
            round_idx=state.round_idx,
            reports=reports,
            layer_sparsity={name: sum(one.get(name, 0.0) for one in sparsity) / len(sparsity) for name in names},
            start_s=state.now_s,
            end_s=self.clock.now_s,
            wall_s=wall_s,
            lost=lost,
            in_flight=self.clock.jobs(),
            unfit=self._dispatcher.unfit,
            unit_holders=self._unit_holders(finished, reports),
            metrics={tag: value for part in self.algorithm.slots().values() for tag, value in part.metrics().items()},
        )
        self.log_dict(self.last_round.scalars(), on_step=False, on_epoch=True, batch_size=1)
        self._tell_rejected(state.round_idx, [report.client for report in reports if not report.accepted])

    def _unit_holders(self, finished: Sequence[Job], reports: Sequence[Report]) -> dict[str, torch.Tensor]:
        keeps = [job.coverage.keep for job, report in zip(finished, reports, strict=True) if report.weight > 0]
        if all(bool(keep.all()) for keep in keeps):
            return {}
        holders = torch.zeros(self.plan.num_units, dtype=torch.int64)
        for keep in keeps:
            holders += keep
        return {group.name: holders[group.units] for group in self.plan.groups}

    def _tell_rejected(self, round_idx: int, rejected: Sequence[int]) -> None:
        """Name the clients whose update was left out, each once: the loggers have the number of every round."""
        new = sorted(client for client in rejected if client not in self._told_rejected)
        self._told_rejected.update(new)
        if new:
            names = named(new, lambda client: f"{client} ({self.fleet.device(client)})")
            what = "a client whose update was" if len(new) == 1 else f"{len(new)} clients whose updates were"
            self.print(f"round {round_idx + 1}: left out {what} not finite: {names} (each is named once)")

    def _start_from_init_weights(self) -> None:
        if self._init_weights is not None:
            load_init_weights(self.client, self._init_weights)
            self._init_weights = None

    def _prepare_evaluation(self) -> None:
        self._start_from_init_weights()
        data = getattr(self.trainer, "datamodule", None)
        server_data = data.server() if isinstance(data, FederatedData) else None

        def forward(batch: Any) -> None:
            batch = self._on_before_batch_transfer(batch)
            with torch.no_grad():
                run_forward(self.client, self.trainer.strategy.batch_to_device(batch))

        self.algorithm.norm.before_evaluation(self.client, server_data, forward)
