"""The program: picks the subcommand, and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path

from fedlight.errors import ConfigError, FedlightError

DEBUG_VARIABLE = "FEDLIGHT_DEBUG"
OK, FAILED, REFUSED, UNREAD = 0, 1, 2, 141
"""Exit codes: done; broke while running; the input was wrong, and the line on stderr says how to mend it; whoever read
the output closed it (``| head``), for which shells know 128 + SIGPIPE."""

HELP = """usage: fedlight <subcommand> [options]

Trains one model over a fleet of unequal devices, each on a smaller network that fits it.

  fit       train:                fedlight fit --config configs/quickstart.yaml
  validate  evaluate a checkpoint on validation data:  fedlight validate --config FILE --ckpt_path CKPT
  test      evaluate a checkpoint on test data:        fedlight test --config FILE --ckpt_path CKPT
  export    write a submodel as ONNX:                  fedlight export --ckpt_path CKPT --ratio 0.5 --out DIR
  profile   size and speed of submodels by ratio:      fedlight profile --config FILE
  partition which client holds what:                   fedlight partition --config FILE --out DIR
  compare   several algorithms, several seeds, one page: fedlight compare --config FILE --out DIR
  report    tables and a page from finished runs:      fedlight report DIR... --out REPORT_DIR

fedlight <subcommand> --help lists its options. Any key of a config file is an option too: --trainer.max_epochs 50.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code.

    Args:
        argv: arguments without the program's name; None: those of the process.
    """
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        if sys.stdout is not None:  # None where a shell has closed it
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its exit; into nothing, that can't fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    return code


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return OK if arguments else REFUSED
    # A user's own modules lie in the working folder; a console script doesn't see it by itself.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        _dispatch(arguments)
    except SystemExit as exit_request:
        return _exit_code(exit_request.code)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_unread():
            raise
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        line, code = describe(error, arguments)
        if not _told_by_first(error):
            print(f"fedlight: {line}", file=sys.stderr)
        return code
    return OK


def _is_unread() -> bool:
    """Whether it is the program's own output that nobody reads: then an empty line can't be printed either."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return True
    return False


def _exit_code(code: object) -> int:
    """Return what ``sys.exit(code)`` ends a process with, and print the text that code may be, as it does."""
    if code is None:
        return OK
    if isinstance(code, int):
        return code
    print(f"fedlight: {code}", file=sys.stderr)
    return FAILED


def describe(error: Exception, arguments: Sequence[str]) -> tuple[str, int]:
    """Return an error as one line, and the exit code that goes with it."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    refusal = _find(error, FedlightError)
    if refusal is not None:
        return _as_options(_one_line(refusal)), REFUSED
    if isinstance(error, MisconfigurationException):
        absent = any(words in str(error) for words in ("backend found", "can not run on your system"))
        way_out = "; set trainer.accelerator to auto (a GPU if there is one) or cpu" if absent else ""
        return f"the Trainer refuses its settings: {_one_line(error)}{way_out}", REFUSED
    frame = _telling_frame(traceback.extract_tb(error.__traceback__))
    what = f"{type(error).__name__}: {_one_line(error) or 'no message'}"
    return (
        f"{arguments[0]} failed: {what} ({frame.filename}:{frame.lineno}); {DEBUG_VARIABLE}=1 shows the traceback",
        FAILED,
    )


def _as_options(line: str) -> str:
    """Return a refusal of a model with what it says of an argument ``protect`` as the option to type."""
    line = re.sub(r"\bprotect=(\[.*?\])", r'--model.protect+="\1"', line)
    return re.sub(r"\bprotect=('[^']*')", r"model.protect: \1", line)


def _told_by_first(error: Exception) -> bool:
    """Whether the first of several processes meets the same refusal, and tells it: all but what a client brings up."""
    if os.environ.get("LOCAL_RANK", "0") == "0" or _find(error, FedlightError) is None:
        return False
    return all(frame.name != "run_client" for frame in traceback.extract_tb(error.__traceback__))


def _find(error: BaseException | None, kind: type[FedlightError]) -> FedlightError | None:
    """Return the error of this kind that lies behind another (parsers wrap what constructors raise), else None."""
    while error is not None:
        if isinstance(error, kind):
            return error
        error = error.__cause__ or error.__context__
    return None


def _telling_frame(frames: Sequence[traceback.FrameSummary]) -> traceback.FrameSummary:
    """Return the innermost frame of the user's own code, else of all: most errors show in it and arise in torch."""
    others = (str(Path(__file__).resolve().parents[1]), sysconfig.get_paths()["stdlib"], "<")
    own = [frame for frame in frames if "site-packages" not in frame.filename and not frame.filename.startswith(others)]
    return (own or frames)[-1]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _dispatch(arguments: list[str]) -> None:
    """Run the subcommand; what it needs is imported only then."""
    from fedlight.cli.quiet import silence_noise

    silence_noise()
    name = arguments[0]
    if name == "export":
        from fedlight.cli.export import run_export

        run_export(arguments[1:])
    elif name == "profile":
        from fedlight.cli.profile import run_profile

        run_profile(arguments[1:])
    elif name == "partition":
        from fedlight.cli.partition import run_partition

        run_partition(arguments[1:])
    elif name == "compare":
        from fedlight.cli.compare import run_compare

        run_compare(arguments[1:])
    elif name == "report":
        from fedlight.cli.report import run_report

        run_report(arguments[1:])
    elif name in ("fit", "validate", "test"):
        from fedlight.cli.run import FedlightCLI

        FedlightCLI(args=arguments)
    else:
        raise ConfigError(
            f"unknown subcommand {name}; use fit, validate, test, export, profile, partition, compare or report "
            "(fedlight --help)"
        )
