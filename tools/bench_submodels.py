"""What submodels cost on one thread: cutting and merging them, and a training step against its share of MACs.

    python tools/bench_submodels.py [--repeats 15] [--compare]

First table: milliseconds to find the index maps of a keep set and cut its tensors, to add the update back into float64
sums with their coverage, and to build the module; per network, at ratio 0.5 (``--compare``: and to do the cutting with
torch-pruning's own prune() on a copy). Second table: time of a training step of ResNet-18 (3x32x32, batch 16, SGD) at
three ratios with counts rounded to 8, as a share of the full network's step, beside the share of its MACs. Both sides
of every ratio alternate in one process, and medians are compared. Times are of the processor, which on one thread is
what a clock shows while nothing else runs.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch_pruning
from torch import Tensor, nn

from fedlight.models import ConvNet, ResNet18
from fedlight.submodels import SubmodelPlan

RATIOS = (0.25, 0.5, 0.75)


def milliseconds(*sides: Callable[[], object], repeats: int) -> list[float]:
    """Run the sides in turn, ``repeats`` times after one warm-up, and return the median of each."""
    times: list[list[float]] = [[] for _ in sides]
    for repeat in range(repeats + 1):
        for side, run in zip(times, sides, strict=True):
            start = time.process_time()
            run()
            if repeat:
                side.append((time.process_time() - start) * 1000)
    return [statistics.median(side) for side in times]


def prune_a_copy(module: nn.Module, inputs: Tensor, outputs: nn.Module, ratio: float) -> None:
    """Make a submodel as torch-pruning does: copy the network, build its graph, prune."""
    path = next(name for name, layer in module.named_modules() if layer is outputs)
    copied = copy.deepcopy(module)
    torch_pruning.pruner.BasePruner(
        copied,
        (inputs,),
        torch_pruning.importance.RandomImportance(),
        pruning_ratio=ratio,
        ignored_layers=[copied.get_submodule(path)],
    ).step()


def bench_maps(name: str, module: nn.Module, outputs: nn.Module, repeats: int, compare: bool) -> None:
    """Print one row of the first table."""
    inputs = module.example_input_array
    assert isinstance(inputs, Tensor)
    plan = SubmodelPlan.trace(module, inputs)
    keep = plan.keep(torch.rand(plan.num_units, generator=torch.Generator().manual_seed(0)), 0.5)
    state = {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    whole = module.state_dict()
    totals = {name: torch.zeros(tensor.shape, dtype=torch.float64) for name, tensor in state.items()}
    coverage = plan.coverage(keep)
    counts = {name: torch.zeros(coverage.count_shape(name), dtype=torch.float64) for name in state}
    thin = plan.slice(whole, keep)

    def cut() -> None:
        plan.coverage(keep).slice(whole)

    def merge() -> None:
        for name in state:
            coverage.scatter_add_(name, totals[name], thin[name], 0.5)
            coverage.count_add_(name, counts[name], 0.5)

    sides = [cut, merge, lambda: plan.build(module, keep)]
    sides += [lambda: prune_a_copy(module, inputs, outputs, 0.5)] if compare else []
    times = milliseconds(*sides, repeats=repeats)
    row = f"{name:10s} {times[0]:8.2f} {times[1]:8.2f} {times[0] + times[1]:8.2f} {times[2]:8.2f}"
    print(row + (f" {times[3]:10.2f} {times[3] / times[2]:6.1f}" if compare else ""))


def training_step(module: nn.Module) -> Callable[[], None]:
    """One step of SGD on a fixed batch of 16."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (16,), generator=generator)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    module.train()

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(images), labels).backward()
        optimizer.step()

    return step


def bench_steps(repeats: int, memory_format: torch.memory_format) -> None:
    """Print the second table."""
    module = ResNet18().to(memory_format=memory_format)
    plan = SubmodelPlan.trace(module, module.example_input_array)
    full_macs = plan.cost(plan.full_keep()).macs
    full = training_step(copy.deepcopy(module))
    for ratio in RATIOS:
        keep = plan.keep(torch.rand(plan.num_units, generator=torch.Generator().manual_seed(0)), ratio, round_to=8)
        thin = training_step(plan.build(module, keep))
        full_ms, thin_ms = milliseconds(full, thin, repeats=repeats)
        macs = plan.cost(keep).macs / full_macs
        print(f"{ratio:5.2f} {full_ms:9.1f} {thin_ms:9.1f} {thin_ms / full_ms:7.3f} {macs:7.3f} "
              f"{thin_ms / full_ms / macs:9.2f}")  # fmt: skip


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="measured runs of each side")
    parser.add_argument("--compare", action="store_true", help="time torch-pruning's prune() beside build")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("at ratio .5     cut ms merge ms   sum ms build ms" + ("   prune ms  prune/build" if options.compare else ""))
    resnet, convnet = ResNet18(), ConvNet("cifar")
    bench_maps("ResNet18", resnet, last_linear(resnet), options.repeats, options.compare)
    bench_maps("ConvNet", convnet, last_linear(convnet), options.repeats, options.compare)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        print(f"{memory_format}\nratio   full ms   thin ms   share    MACs share/MACs")
        bench_steps(options.repeats, memory_format)


def last_linear(module: nn.Module) -> nn.Module:
    """The layer that puts out the classes, which torch-pruning must be told to leave alone."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]


if __name__ == "__main__":
    main()
