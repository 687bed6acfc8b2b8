"""What operators may need to know of the experts' data: Gram matrices and Fisher diagonals.

Each expert is run on the inputs of its own tasks' search split, without their labels. The results
are a mapping from the place at which a tensor starts in the flat vector of parameters to its
statistic; a tensor that has none is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from merge_gym.models.parameters import SHARED, Slot
from merge_gym.models.weights import build, fill
from merge_gym.operators import Statistic, get
from merge_gym.suites import Suite
from merge_gym.suites.metrics import METRICS
from merge_gym.suites.sequences import end_to_end

Statistics = Mapping[int, Tensor]

BATCH = 32


def check_data(operator: str, suite: Suite) -> None:
    """ValueError where the operator needs statistics that the suite's tasks cannot give."""
    kind = get(operator).needs
    if kind is None:
        return
    served = {task.expert for task in suite.tasks.values()}
    if idle := [name for name in suite.experts if name not in served]:
        raise ValueError(
            f"operator {operator!r} runs each expert on inputs of its own task, but no task "
            f"belongs to {', '.join(idle)}: leave the operator out, or give them tasks"
        )
    language = [name for name, task in suite.tasks.items() if METRICS[task.metric].language]
    if kind == "fisher" and language:
        raise ValueError(
            f"operator {operator!r} needs the probabilities of classes, but {', '.join(language)} "
            f"scores the tokens of a language model: leave the operator out"
        )


def collect(kind: Statistic, suite: Suite) -> list[Statistics]:
    """The statistics of every expert of the suite, in order."""
    return [COLLECTORS[kind](suite, expert) for expert in suite.experts]


@torch.inference_mode()
def gram_matrices(suite: Suite, expert: str) -> Statistics:
    """XᵀX for the weight of every `torch.nn.Linear`, summed in float64, shape (inputs, inputs).

    The rows of X are what reaches the layer: one for each token of each example, padding included.
    """
    slots, model = _slots(suite), _model(suite, expert)
    sums: dict[int, Tensor] = {}
    for name, module in model.named_modules():
        slot = slots.get(f"{name}.weight")
        if slot and isinstance(module, nn.Linear):
            size = module.in_features
            sums[slot.start] = torch.zeros(size, size, dtype=torch.float64)
            module.register_forward_pre_hook(_add_gram(sums[slot.start]))
    for inputs in _batches(suite, expert, BATCH):
        model(**inputs)
    return sums


def fisher_diagonals(suite: Suite, expert: str) -> Statistics:
    """The diagonal of the Fisher information, float32, in each tensor's shape.

    The mean over examples of the expected squared gradient of log p(y | x), the expectation taken
    over every class y with the probability that the expert itself gives it. It costs as many
    backward passes as there are classes, for each example by itself.
    """
    slots, model = _slots(suite), _model(suite, expert)
    tensors = {slots[name]: p for name, p in model.named_parameters() if name in slots}
    sums = {slot.start: torch.zeros_like(tensor) for slot, tensor in tensors.items()}
    examples = 0
    for inputs in _batches(suite, expert, 1):
        _add_fisher(sums, tensors, model(**inputs).logits[0].log_softmax(dim=-1))
        examples += 1
    return {start: squares / examples for start, squares in sums.items()}


COLLECTORS: dict[Statistic, Callable[[Suite, str], Statistics]] = {
    "gram": gram_matrices,
    "fisher": fisher_diagonals,
}


def _add_gram(total: Tensor) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        rows = arguments[0].reshape(-1, len(total)).double()
        total.addmm_(rows.T, rows)

    return hook


def _add_fisher(
    sums: Mapping[int, Tensor], tensors: Mapping[Slot, Tensor], log_probabilities: Tensor
) -> None:
    for log_probability in log_probabilities:
        gradients = torch.autograd.grad(
            log_probability, list(tensors.values()), retain_graph=True, allow_unused=True
        )
        probability = float(log_probability.detach().exp())
        for slot, gradient in zip(tensors, gradients, strict=True):
            if gradient is not None:
                sums[slot.start].addcmul_(gradient, gradient, value=probability)


def _slots(suite: Suite) -> dict[str, Slot]:
    """Where each mergeable tensor lies, by its full name."""
    return {
        slot.name if group == SHARED else suite.adapter.tensor_name(*group, slot.name): slot
        for group, slots in suite.pretrained.parameters.layout.groups.items()
        for slot in slots
    }


def _model(suite: Suite, expert: str) -> nn.Module:
    """The expert as a transformers model of its own, in float32."""
    checkpoint = suite.experts[expert]
    flat = checkpoint.parameters.flat
    tensors = {
        name: flat[slot.start : slot.stop].view(slot.shape) for name, slot in _slots(suite).items()
    }
    model = build(suite.adapter, checkpoint.config)
    fill(model, {**tensors, **checkpoint.head})
    return model.eval()


def _batches(suite: Suite, expert: str, size: int) -> Iterator[Mapping[str, Tensor]]:
    """The inputs of the expert's tasks on the search split; several sequences of one example
    stand one below the other."""
    for task in suite.tasks.values():
        if task.expert == expert:
            split = task.splits["search"]
            for start in range(0, len(split), size):
                inputs = split[start : start + size].inputs
                yield {name: end_to_end(value) for name, value in inputs.items()}
