"""``fedlight report``: tables, pictures and a page from the logs of finished runs."""

from __future__ import annotations

import re
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from fedlight.cli.folders import check_writable
from fedlight.cli.messages import explain
from fedlight.errors import ConfigError
from fedlight.report import PAGE, ReportSettings, write_report


def run_report(arguments: Sequence[str]) -> None:
    """Run the subcommand."""
    options = _parse(arguments)
    _check_out(Path(options.out), options.overwrite)
    settings = ReportSettings(
        title=options.title,
        baseline=options.baseline,
        targets=None if options.targets is None else tuple(options.targets),
        metric=options.metric,
    )
    page = write_report(options.out, options.folders, settings)
    Console().print(f"report: {page}", soft_wrap=True, highlight=False)


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(
        prog="fedlight report",
        description="Writes tables, pictures and one self-contained page from the logs of finished runs.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "folders",
        type=str,
        nargs="+",
        help="Folders with runs somewhere below them: of fedlight compare, of fedlight fit, or any TensorBoard logs "
        "with the same tags. LABEL=FOLDER names the runs of one.",
    )
    parser.add_argument("--out", type=str, required=True, help="Folder to write to.")
    parser.add_argument(
        "--targets", type=float, nargs="+", default=None, help="Values of the metric to reach, for example .8 .85."
    )
    parser.add_argument(
        "--baseline", type=str, default=None, help="Label that differences and speed-ups are over (SynFL, else FedAvg)."
    )
    parser.add_argument("--metric", type=str, default=None, help="Tag of what is compared (val/accuracy).")
    parser.add_argument("--title", type=str, default=None, help="Heading of the page.")
    parser.add_argument(
        "--overwrite", type=bool, default=False, nargs="?", const=True, help="Replace a report that is in --out."
    )
    try:
        return parser.parse_args(list(arguments))
    except ArgumentError as error:
        if re.match(r'Parser key "targets" element', error.message):
            value = error.message.rpartition("Got value: ")[2].strip()
            raise ConfigError(
                f"report: --targets takes numbers, got {value}; folders come before --targets, or after a --"
            ) from error
        raise ConfigError(f"report: {explain(error.message, [action.dest for action in parser._actions])}") from error


def _check_out(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"report: --out {out} is a file; name a folder")
    if (out / PAGE).exists() and not overwrite:
        raise ConfigError(
            f"report: --out {out} holds {PAGE} already; choose another folder, or replace it by --overwrite"
        )
    check_writable(out, "out")
