"""Examples of several sequences each, such as the choices of a question: one rule for all."""

from __future__ import annotations

from torch import Tensor


def end_to_end(value: Tensor) -> Tensor:
    """What a model is called with: the sequences of all examples laid end to end.

    Args:
        value: an input of a split. Tokens (n, choices, length) become (n * choices, length); tokens
            (n, length) and whatever is no whole number (pixels) stay as they are.
    """
    return value if value.is_floating_point() or value.dim() < 3 else value.flatten(0, -2)


def by_example(output: Tensor, examples: int) -> Tensor:
    """`end_to_end` undone: (n * choices, ...) becomes (n, choices, ...); (n, ...) stays."""
    return output if len(output) == examples else output.unflatten(0, (examples, -1))
