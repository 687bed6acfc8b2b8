"""Examples of several sequences: laid end to end for the model, and put back."""

from __future__ import annotations

import torch

from merge_gym.suites.sequences import by_example, end_to_end


def test_choices_are_laid_end_to_end_and_put_back() -> None:
    tokens = torch.arange(24).view(2, 3, 4)
    flat = end_to_end(tokens)
    assert torch.equal(flat, torch.arange(24).view(6, 4))
    assert torch.equal(by_example(flat, 2), tokens)


def test_single_sequences_and_pixels_stay_as_they_are() -> None:
    tokens, pixels = torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 3, 8, 8)
    assert end_to_end(tokens) is tokens
    assert end_to_end(pixels) is pixels
    assert by_example(tokens, 2) is tokens
