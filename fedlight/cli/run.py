"""``fedlight fit``, ``validate`` and ``test``: LightningCLI with the settings that a federated run needs."""

from __future__ import annotations

import sys
from argparse import ArgumentError
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from textwrap import indent
from typing import Any, Literal, cast, final

import lightning.pytorch as pl
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden

import fedlight.algorithms
import fedlight.fleet
import fedlight.parts  # noqa: F401 - the imports let configs name their classes without a path
from fedlight.cli.best import default_checkpoints
from fedlight.cli.composition import composition_of
from fedlight.cli.folders import (
    check_writable,
    find_checkpoint,
    missing_folders,
    remove_empty,
    remove_unused,
    version_of,
)
from fedlight.cli.keys import locate
from fedlight.cli.messages import explain
from fedlight.cli.resume import check_rounds_left, other_options
from fedlight.cli.settings import check_evaluation, check_step, check_trainer
from fedlight.core import Server
from fedlight.core.checkpoint_file import read_checkpoint_file
from fedlight.data import FederatedDataModule
from fedlight.data.overview import PartitionOverview
from fedlight.errors import ConfigError, DataError, DivergedError
from fedlight.tracking import FleetOverview, FleetScalars, JobLog, Pictures, RoundProgress, RunSummary
from fedlight.tracking.run_note import close_notes

PRINT_CONFIG = "--print_config"
SUBCOMMANDS = ("fit", "validate", "test")
DESCRIPTION = "Trains one model over a fleet of unequal devices."
SEED_TARGETS = ("model.seed", "data.seed")
TRAINER_DEFAULTS = {
    "max_epochs": 30,  # rounds
    "use_distributed_sampler": False,  # the server shares clients out over processes, not samples
    "num_sanity_val_steps": 0,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 1,  # one step is one round
    "enable_progress_bar": False,  # RoundProgress shows rounds instead of batches
    "enable_model_summary": False,  # RunSummary says what matters; `fedlight profile` prices submodels
}


@final
class FedlightCLI(LightningCLI):
    """LightningCLI over the server and its data.

    Args:
        args: arguments as on the command line.
        run: whether they begin with a subcommand, which is run; else ``model`` and ``data`` are made, no more.
        extend: adds further arguments to the parser.
        config_text: a config as YAML, instead of ``args``.
    """

    def __init__(
        self,
        args: list[str] | None = None,
        run: bool = True,
        extend: Callable[[LightningArgumentParser], None] | None = None,
        config_text: str | None = None,
    ) -> None:
        self._extend = extend
        self._config_text = config_text
        self._checkpoint: dict[str, Any] | None = None
        kwargs = {"exit_on_error": False, "allow_abbrev": False, "description": DESCRIPTION}
        super().__init__(
            Server,
            FederatedDataModule,
            seed_everything_default=0,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_kwargs={**kwargs, **({name: dict(kwargs) for name in SUBCOMMANDS} if run else {})},
            save_config_callback=None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
            run=run,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the Trainer's methods that are offered, with the arguments that are filled in here."""
        return {name: LightningCLI.subcommands()[name] for name in SUBCOMMANDS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link the one seed to all that draws, and add what is ours."""
        for target in SEED_TARGETS:
            parser.link_arguments("seed_everything", target, compute_fn=_seed)
        parser.add_argument("--test_after_fit", type=bool, default=True, help="Whether fit ends with a test run.")
        parser.add_argument(
            "--num_threads",
            type=int | None,
            default=None,
            help="Threads per process that PyTorch computes with; null: as many as there are cores.",
        )
        parser.add_argument(
            "--monitor",
            type=str | None,
            default=None,
            help="Metric that the round lines show and best.ckpt follows; null: val/accuracy, else the first that "
            "validation logs other than a loss, else val/loss.",
        )
        parser.add_argument(
            "--monitor_mode",
            type=Literal["max", "min"] | None,
            default=None,
            help="Whether the metric should be large or small; null: errors and losses small, anything else large.",
        )
        if self._extend is not None:
            self._extend(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; raises ConfigError, in one line, where the stock method would print usage and exit."""
        try:
            if self._config_text is not None:
                self.config = parser.parse_string(self._config_text)
            else:
                self.config = parser.parse_args(cast("list[str]", args))
        except ArgumentError as error:
            raise ConfigError(explain(error.message, self._known_keys())) from error
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{_not_text(cast('list[str]', args or []))} is no text: give --config a YAML file"
            ) from error
        except SystemExit:
            self._print_composition(cast("list[str]", args or []))
            raise
        subcommand = self.config.get("subcommand")
        if subcommand:
            self._find_files(self.config[subcommand])

    def _find_files(self, config: Namespace) -> None:
        """Settle where the run writes, and read the checkpoint that it starts from."""
        if config.trainer.default_root_dir is None:
            files = [Path(str(path)).stem for path in config.get("config") or ()]
            config.trainer.default_root_dir = str(Path("runs") / (files[-1] if files else "run"))
        named = config.get("ckpt_path")
        if named is None:
            return
        config.ckpt_path = find_checkpoint(named, config.trainer.default_root_dir)
        if config.ckpt_path != named:
            rank_zero_only(print)(f"fedlight: note: --ckpt_path {named} is {config.ckpt_path}", file=sys.stderr)
        # Before Lightning reads it too, for settings that a checkpoint of something else may hold.
        otherwise = ", or pass it as model.init_weights for its weights alone"
        self._checkpoint = read_checkpoint_file(config.ckpt_path, "ckpt_path", otherwise)

    def _print_composition(self, args: list[str]) -> None:
        """Add, after ``--print_config``, the parts that the algorithm is made of, as comments."""
        others = [arg for arg in args if arg.partition("=")[0] != PRINT_CONFIG]
        if len(others) == len(args) or others[:1] == [] or others[0] not in SUBCOMMANDS:
            return
        # What is printed may be no config yet; then there is nothing to make.
        with suppress(ArgumentError):
            chosen = self.parser.parse_args(others)[others[0]].model.algorithm
            print(f"# model.algorithm: {chosen.class_path} is made of")
            print(indent(composition_of(chosen), "#   "), end="")

    def _known_keys(self) -> list[str]:
        """Return all keys that a config may hold, with dots."""
        parsers = list(getattr(self, "_subcommand_parsers", {"": self.parser}).values())
        keys = [action.dest for action in parsers[0]._actions]
        return [key for key in keys if not key.endswith("help") and key not in SEED_TARGETS]

    def before_instantiate_classes(self) -> None:
        """Check what the run's settings say, and that it can write where it is to."""
        set_num_threads(self._get(self.config, "num_threads"))
        if self.subcommand is None:
            return
        config = self.config[self.subcommand]
        check_trainer(config.trainer)
        check_evaluation(self.subcommand, config.get("ckpt_path"), config.model.get("init_weights"))
        self._check_resume(config)
        check_writable(config.trainer.default_root_dir, "trainer.default_root_dir")
        self._new_folders = missing_folders(config.trainer.default_root_dir)
        if config.get("weights_only") is None:
            # A checkpoint of ours holds tensors and plain values; whatever else is in a file is not executed.
            config.weights_only = True

    def _check_resume(self, config: Namespace) -> None:
        """Check that a run which goes on has rounds left, and say where it has got other options."""
        if self._checkpoint is None or self.subcommand != "fit":
            return
        check_rounds_left(config.ckpt_path, self._checkpoint, config.trainer)
        others = other_options(self._parser(self.subcommand), self._checkpoint["fedlight"].get("config"), config)
        if others:
            line = f"fedlight: note: {config.ckpt_path} goes on with other settings: {'; '.join(others)}"
            rank_zero_only(print)(line, file=sys.stderr)

    def instantiate_classes(self) -> None:
        """Make model, data and (to run a subcommand) the Trainer."""
        try:
            self.config_init = self.parser.instantiate(self.config)
        except Exception as error:
            refusal = locate(error, self.config if self.subcommand is None else self.config[self.subcommand])
            if refusal is None:
                raise
            raise refusal from error
        self.model, self.datamodule = self._get(self.config_init, "model"), self._get(self.config_init, "data")
        if self.subcommand is not None:
            check_step(self.subcommand, self.model.client)
            self.trainer = self.instantiate_trainer()

    def after_instantiate_classes(self) -> None:
        """Hand the server the configuration that its checkpoints are to carry."""
        if self.subcommand is not None:
            self.model.run_config = self.run_config()

    def full_config(self) -> str:
        """Return the configuration with all defaults, as ``--print_config`` shows it."""
        return str(self._parser(self.subcommand).dump(self.config[str(self.subcommand)], skip_unset=False))

    def run_config(self) -> str:
        """Return the run's configuration as YAML: what a config file must say to make this run."""
        parser = self._parser(self.subcommand)
        config = self.config[str(self.subcommand)].clone()
        for key in list(config.keys()):
            if key.partition(".")[0] not in ("seed_everything", "model", "data", "trainer"):
                config.pop(key, None)
        return str(parser.dump(config, skip_unset=True, skip_validation=True))

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Make the Trainer, with our logger and callbacks where the config brings none of the kind."""
        config = self.config_init[str(self.subcommand)]
        trainer_config = config.trainer
        trainer_config.callbacks = _as_list(trainer_config.callbacks) + self._default_callbacks()
        if trainer_config.logger in (None, True):
            trainer_config.logger = _default_logger(trainer_config.default_root_dir, config.get("ckpt_path"))
        return super().instantiate_trainer(**kwargs)

    def _default_callbacks(self) -> list[pl.Callback]:
        config = self.config_init[str(self.subcommand)]
        given = {type(callback) for callback in _as_list(config.trainer.callbacks)}
        callbacks: list[pl.Callback] = [
            RoundProgress(metric=config.monitor),
            FleetOverview(),
            FleetScalars(),
            JobLog(),
            Pictures(),
            PartitionOverview(),
            RunSummary(after_test=self.subcommand == "fit" and config.test_after_fit),
        ]
        callbacks = [callback for callback in callbacks if type(callback) not in given]
        callbacks.append(_SaveConfig(self.full_config()))
        if ModelCheckpoint not in given and config.trainer.enable_checkpointing is not False:
            by_validation = self.datamodule.validate_on == "holdout"
            callbacks += default_checkpoints(by_validation, config.monitor, config.monitor_mode)
        return callbacks

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
            close_notes(self.trainer)
        except Exception as error:
            close_notes(self.trainer, error)
            broke_early = subcommand != "fit" or self.model.round_idx <= 1
            if self.trainer.is_global_zero and broke_early:
                remove_unused(self.trainer.logger)
                remove_empty(self._new_folders)
            raise

    def after_fit(self) -> None:
        """Test the model that the run ended with, where there are test data and a ``test_step``.

        Raises:
            DivergedError: the run has merged no update at all: none was finite, or none came back.
        """
        summaries = [one for one in getattr(self.trainer, "callbacks", ()) if isinstance(one, RunSummary)]
        failure = next((summary.failure for summary in summaries if summary.failure is not None), None)
        if self.trainer.interrupted:
            return
        if self.config_init[str(self.subcommand)].test_after_fit:
            if self._can_test() and failure is None:
                self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
            else:
                for summary in summaries:
                    if summary.after_test:
                        summary.show(self.trainer)
        if failure is not None:
            raise DivergedError(failure)

    def _can_test(self) -> bool:
        if not is_overridden("test_step", self.model.client, pl.LightningModule):
            return False
        try:
            self.datamodule.test_dataloader()
        except DataError:
            return False
        return True


def _not_text(args: Iterable[object]) -> str:
    """Return the first file among the arguments that can't be read as text, or words for one that isn't among them."""
    values = [str(arg).rpartition("=")[2] for arg in args]
    for path in (Path(value) for value in values if Path(value).is_file()):
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return str(path)
    return "a config file"


def set_num_threads(num_threads: int | None) -> None:
    """Let PyTorch compute with this many threads; raises ConfigError if that is no number of threads."""
    if num_threads is None:
        return
    if num_threads < 1:
        raise ConfigError(f"num_threads is {num_threads}; give 1 or more, or null for as many as there are cores")
    torch.set_num_threads(num_threads)


@final
class _SaveConfig(pl.Callback):
    """Writes ``config.yaml`` into the run's folder; unlike Lightning's own only once nothing was refused in setup.

    Args:
        text: the configuration.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.yaml").write_text(self._text)


def _default_logger(root: str, ckpt_path: str | None) -> TensorBoardLogger:
    """Return a logger into ``<root>/version_k``: a new k, or that of the run which is resumed."""
    return TensorBoardLogger(save_dir=root, name="", version=version_of(ckpt_path, root), default_hp_metric=False)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _seed(value: bool | int) -> int:
    """Return the run's seed; raises ConfigError where none is given, since every draw of a run derives from it."""
    if isinstance(value, bool):
        raise ConfigError(
            f"seed_everything is {str(value).lower()}; give a number, every draw of a run derives from it"
        )
    return value
