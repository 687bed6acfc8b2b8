"""What the operators share: task vectors, sparsification and consensus.

A task vector is what fine-tuning added, ``expert - pretrained``. Many operators are a way to thin
each task vector (*sparsify*) followed by a way to combine them (*consensus*); both kinds are here.
Half-precision values are computed in float32 and cast back once, at the end.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from merge_gym.operators._selection import kth_smallest, pieces

Consensus = Literal["mean", "sum"]


def work(tensor: Tensor) -> Tensor:
    """The tensor in the precision operators compute in: float32, or float64 if it has that."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def one_by_one(
    pretrained: Tensor, experts: Sequence[Tensor], weight: float | Sequence[float] = 1.0
) -> Iterator[Tensor]:
    """Each expert's difference from the pretrained values times its weight, as a new contiguous
    tensor that is made when its turn comes: whole models need not be in memory all at once."""
    base = work(pretrained)
    for expert, factor in zip(experts, weights(weight, len(experts)), strict=True):
        yield (work(expert) - base).contiguous().mul_(factor)


def task_vectors(
    pretrained: Tensor, experts: Sequence[Tensor], weight: float | Sequence[float] = 1.0
) -> list[Tensor]:
    """The task vectors of ``one_by_one``, as a list."""
    return list(one_by_one(pretrained, experts, weight))


def add(pretrained: Tensor, task_vector: Tensor) -> Tensor:
    """The pretrained values moved by a task vector, which is used up, in their own dtype."""
    return task_vector.add_(work(pretrained)).to(pretrained.dtype)


def weights(weight: float | Sequence[float], experts: int) -> list[float]:
    """One weight per expert, from one for all or from one each."""
    if isinstance(weight, Sequence):
        return list(weight)
    return [weight] * experts


def total(tensors: Iterable[Tensor]) -> Tensor:
    """The sum of the tensors, in one new tensor."""
    remaining = iter(tensors)
    result = next(remaining).clone()
    for tensor in remaining:
        result.add_(tensor)
    return result


def weighted_sum(tensors: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    """The sum of ``factor * tensor``, in one new tensor."""
    result = tensors[0] * factors[0]
    for tensor, factor in zip(tensors[1:], factors[1:], strict=True):
        result.add_(tensor, alpha=factor)
    return result


def rows(tensor: Tensor) -> Tensor:
    """The tensor with its rows along the last dimension; a single number is a row by itself."""
    return tensor if tensor.dim() > 0 else tensor.reshape(1)


def kept(density: float, numel: int) -> int:
    """How many of ``numel`` entries a density keeps: the nearest number, but one if not zero."""
    return max(1, round(density * numel)) if density > 0 else 0


def smallest_kept(tensor: Tensor, density: float) -> Tensor:
    """The smallest of the ``density`` share of the largest magnitudes; infinity if none is kept."""
    count = kept(density, tensor.numel())
    if count == 0:
        return torch.full_like(tensor.view(-1)[0], torch.inf)
    return kth_smallest(tensor.abs(), tensor.numel() - count + 1)


def keep_largest_(tensor: Tensor, density: float) -> Tensor:
    """Set all but the ``density`` share of entries with the largest magnitude to zero, in place.

    Entries that tie with the smallest kept magnitude are kept as well, so the outcome depends on
    neither the order of the entries nor the device.
    """
    threshold = smallest_kept(tensor, density)
    for (piece,) in pieces(tensor):
        piece.mul_(piece.abs() >= threshold)
    return tensor


def seeded(generator: torch.Generator | None) -> torch.Generator:
    """The given generator, or a fresh one seeded with 0."""
    return torch.Generator().manual_seed(0) if generator is None else generator


def uniform(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers from [0, 1) in the tensor's shape, one draw each, on the generator's device.

    So a CPU generator gives the same numbers wherever the tensor lies, and the same ones in the
    same order however a tensor is cut up. An operator calls this once for each expert, in order.
    """
    drawn = torch.rand(
        tensor.shape, generator=generator, device=generator.device, dtype=torch.float32
    )
    return drawn.to(tensor.device)


def drop(
    tensor: Tensor,
    density: float,
    generator: torch.Generator,
    rescale: Literal["density", "l1"],
) -> Tensor:
    """Keep each entry with probability ``density`` and scale up what is left.

    ``density`` divides by the probability, which preserves each entry's expectation; ``l1``
    restores the sum of magnitudes of this very tensor.
    """
    left = tensor * (uniform(tensor, generator) < density)
    if rescale == "density":
        return left / density if density > 0 else left
    remaining = left.abs().sum()
    return left * (tensor.abs().sum() / remaining) if remaining > 0 else left


def elect(vectors: Sequence[Tensor]) -> Tensor:
    """The sign of the entries' sum: the direction with the greater total magnitude, or zero."""
    return total(vectors).sign_()


def agree(vectors: Sequence[Tensor], consensus: Consensus) -> Tensor:
    """Elect a sign for each entry and combine only the values that have it.

    ``mean`` divides by how many agree (the disjoint mean of TIES), ``sum`` does not.
    """
    combined = torch.zeros_like(vectors[0])
    for result, *values in pieces(combined, *vectors):
        sign = elect(values)
        count = torch.zeros_like(sign)
        for value in values:
            agreeing = (value * sign > 0).to(value.dtype)
            result.addcmul_(value, agreeing)
            count.add_(agreeing)
        if consensus == "mean":
            result.div_(count.clamp_(min=1))
    return combined
