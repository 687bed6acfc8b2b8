"""Linear layers as convolutions, where those are faster."""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor, nn
from torch.nn import functional

IMAGES = 16
"""Images from which torch gives a convolution to oneDNN on one thread."""

WORTHWHILE = 3_000_000
"""Multiply-adds from which the convolution's own overhead is made up for, measured."""

TERMS = 192
"""The longest sum that is added up term by term. MKL cuts longer ones just so, and with the same
cuts a convolution gave its results to the bit wherever the two were compared."""


class ConvolvedLinear(nn.Linear):
    """A linear layer whose product is a convolution with a kernel of one pixel.

    torch multiplies float32 matrices on the CPU with the BLAS it was built with, and convolves with
    oneDNN. The two differ in what they make of a processor: MKL takes half of the rate of an AMD
    core with AVX-512, oneDNN nearly all of it. Results are equal up to the order of sums.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Shape (…, in_features) to (…, out_features)."""
        rows = input.numel() // self.in_features
        images = _images(rows)
        if images is None or rows * self.weight.numel() < WORTHWHILE:
            return super().forward(input)
        pixels = input.reshape(images, rows // images, 1, -1).permute(0, 3, 1, 2)
        kernels = self.weight[:, :, None, None]
        first, *others = _cuts(self.in_features)
        convolved = functional.conv2d(pixels[:, first], kernels[:, first], self.bias)
        for part in others:
            convolved += functional.conv2d(pixels[:, part], kernels[:, part])
        return convolved.permute(0, 2, 3, 1).reshape(*input.shape[:-1], -1)


def convolve(module: nn.Module) -> nn.Module:
    """Make the linear layers inside `module` convolved ones, with the same parameters."""
    for name, child in list(module.named_modules()):
        if name and type(child) is nn.Linear:
            module.set_submodule(name, _convolved(child))
    return module


def _convolved(linear: nn.Linear) -> ConvolvedLinear:
    size = linear.in_features, linear.out_features
    convolved = ConvolvedLinear(*size, bias=linear.bias is not None, device="meta")
    convolved.weight, convolved.bias = linear.weight, linear.bias
    return convolved.train(linear.training)


@lru_cache(maxsize=1024)
def _images(rows: int) -> int | None:
    """Into how many equal images to deal rows: the fewest that oneDNN is called for, each of at
    least four pixels; None where rows do not divide so."""
    return next((count for count in range(IMAGES, rows // 4 + 1) if rows % count == 0), None)


@lru_cache(maxsize=64)
def _cuts(terms: int) -> list[slice]:
    """Where to cut a sum: into halves, and into runs of TERMS from twice as many on."""
    length = TERMS if terms >= 2 * TERMS or terms <= TERMS else -(-terms // 2)
    return [slice(start, start + length) for start in range(0, terms, length)]
