"""The toy's regressor under weight masks, by hand: what the twins of unstructured methods share."""

import torch
from toy import ToyData

MASKED = ("hidden.weight", "out.weight")


def gradients(weights, client):
    """Gradient of the masked network with respect to all its weights, so of those that are 0 too; and the loss."""
    data = ToyData().clients[client]
    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
    hidden = torch.tanh(data.x.double() @ leaves["hidden.weight"].T + leaves["hidden.bias"])
    loss = ((hidden @ leaves["out.weight"].T + leaves["out.bias"] - data.y.double()) ** 2).mean()
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True)), float(loss.detach())


def sent_bytes(mask):
    """Dense, bitmap, coordinates, compressed rows or columns: the cheapest."""
    kept, size, rows = int(mask.sum()), mask.numel(), len(mask)
    bits = [32 * size, size + 32 * kept]
    for index, pointers in ((size, 0), (size // rows, rows), (rows, size // rows)):
        bits.append(kept * ((index - 1).bit_length() + 32) + pointers * max(0, kept - 1).bit_length())
    return min(-(-one // 8) for one in bits)


def masked(values, masks):
    """Zero where a mask leaves something out."""
    return {name: value * masks[name] if name in masks else value for name, value in values.items()}
