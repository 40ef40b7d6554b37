"""``fedlight compare``: paired runs of several algorithms from one file, and the report on them."""

from __future__ import annotations

import shlex
import signal
import sys
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from fedlight.cli.folders import check_writable
from fedlight.cli.messages import explain
from fedlight.cli.run import FedlightCLI
from fedlight.cli.settings import check_trainer
from fedlight.compare import (
    Choice,
    Comparison,
    PlannedRun,
    Ready,
    Runner,
    Screen,
    Stop,
    Variant,
    check_folder,
    find_start,
    is_done,
    lock,
    plan_runs,
    write_comparison,
)
from fedlight.errors import ConfigError, FedlightError
from fedlight.tracking.run_note import config_hash

DESCRIPTION = """Runs every algorithm and variant of a comparison file with every seed, paired, and writes report.html.
Finished runs are kept, interrupted ones go on: after Ctrl-C or a crash, give the same command again."""

SET = "--set."
"""Start of the options that set a key of ``fedlight fit`` for all runs."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def run_compare(arguments: Sequence[str]) -> None:
    """Run the subcommand."""
    own, keys = _split(arguments)
    options = _parse(_parser(), own)
    options.set = {**options.set, **keys}
    file, out = _file_of(options), Path(options.out)
    with _naming(file):
        comparison = _comparison(options)
        runs = _resolve(plan_runs(comparison, _find_base(comparison.base, file), out))
    check_folder(out, runs)
    if options.print_commands:
        _print_commands(runs)
        return
    check_writable(out, "out")
    with lock(out) as inherited:
        command = shlex.join(["fedlight", "compare", *arguments])
        write_comparison(out, {**asdict(comparison), "command": command})
        runner = Runner(runs, comparison.jobs, inherited)
        with _naming(file):
            _run(runner, comparison, command)
        _report(runner, out)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="fedlight compare", description=DESCRIPTION, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="Comparison file; any of its keys is an option too.")
    parser.add_argument("--out", type=str, required=True, help="Folder of the runs and the report.")
    parser.add_argument(
        "--print_commands",
        type=bool,
        default=False,
        nargs="?",
        const=True,
        help="Run nothing; print one shell line for each run that isn't done, for GNU parallel or a SLURM array.",
    )
    parser.add_class_arguments(Comparison, None)
    return parser


def _split(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Take ``--set.KEY VALUE`` out of the arguments: the parser would keep the last key of each section only."""
    own, keys = list(arguments), {}
    for index in reversed([index for index, arg in enumerate(own) if arg.startswith(SET)]):
        key, equals, value = own[index].removeprefix(SET).partition("=")
        following = own[index + 1 : index + 2]
        if not key or not (equals or following):
            raise ConfigError(f"compare: {own[index]} lacks {'a value' if key else 'a key'}; give {SET}KEY VALUE")
        keys[key] = value if equals else following[0]
        del own[index : index + (1 if equals else 2)]
    return own, dict(reversed(keys.items()))


def _parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    try:
        return parser.parse_args(list(arguments))
    except (ArgumentError, UnicodeDecodeError) as error:
        given = [arguments[i + 1] for i, arg in enumerate(arguments[:-1]) if arg == "--config"]
        where = given[-1] if given and Path(given[-1]).is_file() else "compare"
        known = [action.dest for action in parser._actions if not action.dest.endswith("help")]
        told = explain(error.message, known) if isinstance(error, ArgumentError) else "the config file is no text"
        raise ConfigError(f"{where}: {told}") from error


def _file_of(options: Namespace) -> Path | None:
    """Return the comparison file that was given last, as it was given."""
    files = options.get("config") or []
    return Path(str(files[-1].relative)) if files else None


@contextmanager
def _naming(file: Path | None) -> Iterator[None]:
    """Put the comparison file's name before the message of what is refused."""
    try:
        yield
    except FedlightError as error:
        raise ConfigError(f"{file or 'compare'}: {error}") from error


def _comparison(options: Namespace) -> Comparison:
    """Return the comparison that was parsed; parts that it names are left to fit, not made here."""
    if not isinstance(options.stop, Namespace):
        raise ConfigError(f"stop is {options.stop}; say at what: target, simulated_s or rounds (stop: {{rounds: 50}})")
    given = {name: _plain(options[name]) for name in Comparison.__dataclass_fields__}
    given["algorithms"] = [one if isinstance(one, str) else Choice(**one) for one in given["algorithms"]]
    given["variants"] = [Variant(**one) for one in given["variants"]]
    given["stop"] = Stop(**given["stop"])
    comparison = Comparison(**given)
    comparison.check()
    return comparison


def _plain(value: Any) -> Any:
    """Return what was parsed without the parser's own types."""
    if isinstance(value, Namespace | dict):
        items = vars(value) if isinstance(value, Namespace) else value
        return {key: _plain(one) for key, one in items.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _find_base(base: str, file: Path | None) -> Path:
    """Return the base config's path: as seen from the comparison file, else from the working folder."""
    beside = (file.parent if file is not None else Path()) / base
    for path in (beside, Path(base)):
        if path.is_file():
            _check_keys(path)
            full = path.resolve()
            return full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else full
    raise ConfigError(f"base: there is no file {beside}, nor {Path(base).absolute()}; give a config of fedlight fit")


def _check_keys(base: Path) -> None:
    """Refuse a base that is no config at all; what its keys say is refused where fit would refuse it."""
    try:
        given = yaml.safe_load(base.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"base: {base} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise ConfigError(f"base: {base} holds no keys; give a config of fedlight fit")


def _resolve(runs: Sequence[PlannedRun]) -> list[Ready]:
    """Make every run's configuration once, without data, so that what fit would refuse is refused before any run."""
    made: dict[tuple[str, ...], dict[str, Any]] = {}
    ready = []
    for run in runs:
        kind = (run.label, *run.cell.values())
        if kind not in made:
            made[kind] = _configuration(run)
        config = {**made[kind], "seed_everything": run.seed}
        limits = [config["trainer"].get(key, -1) for key in ("max_epochs", "max_steps")]
        rounds = [limit for limit in limits if limit is not None and limit >= 0]
        ready.append(Ready(run, config_hash(config), min(rounds, default=None)))
    return ready


def _configuration(run: PlannedRun) -> dict[str, Any]:
    """Return the configuration that ``fedlight fit`` would run with, defaults included."""
    try:
        cli = FedlightCLI(list(run.arguments[1:]), run=False)
        check_trainer(cli.config.trainer)
    except FedlightError as error:
        raise ConfigError(f"{_variant_name(run)}: {error}") from error
    text = cli.parser.dump(cli.config, skip_unset=True, skip_validation=True)
    config: dict[str, Any] = yaml.safe_load(str(text))
    return config


def _variant_name(run: PlannedRun) -> str:
    return ", ".join([run.label, *(f"{axis} {value}" for axis, value in run.cell.items())])


def _print_commands(runs: Sequence[Ready]) -> None:
    left = [ready for ready in runs if not is_done(ready)]
    for ready in left:
        print(ready.run.shell_line(find_start(ready).ckpt_path))
    if not left:
        print(
            f"fedlight: all {len(runs)} runs are done: without --print_commands, the report is written", file=sys.stderr
        )


def _run(runner: Runner, comparison: Comparison, command: str) -> None:
    """Run with a table on the screen; Ctrl-C and SIGTERM end the runs and say how to go on."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Screen(runner.tracked, comparison.metric) as watcher:
            runner.run(watcher)
    except KeyboardInterrupt:
        done = sum(one.status in ("done", "kept") for one in runner.tracked)
        said = f"interrupted with {done} of {len(runner.tracked)} runs done; the same command goes on: {command}"
        print(f"fedlight: {said}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _report(runner: Runner, out: Path) -> None:
    """Write the report on what is done, and say what failed."""
    from fedlight.report import write_report

    failed = runner.failed
    if len(failed) < len(runner.tracked):
        print(f"report: {write_report(out)}")
    if failed:
        names = "; ".join(one.ready.run.name for one in failed)
        raise SystemExit(f"{len(failed)} of {len(runner.tracked)} runs failed: {names}")
