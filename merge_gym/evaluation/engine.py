"""The fast evaluator: the reference's scores, with nothing computed twice, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from merge_gym.evaluation.cache import ActivationCache
from merge_gym.evaluation.calibration import Setting, calibrate
from merge_gym.evaluation.chunks import Chunk, Chunks, Inputs
from merge_gym.evaluation.devices import check_device
from merge_gym.evaluation.model_scorer import ModelScorer
from merge_gym.evaluation.modules import Modules, choose_placement
from merge_gym.evaluation.scorer import Outcome, Request
from merge_gym.memory import Memo
from merge_gym.merging.bank import LayerBank
from merge_gym.merging.heads import Readout, calibrated_readout
from merge_gym.messages import unknown_name
from merge_gym.recipe import Layer, Recipe
from merge_gym.suites.metrics import METRICS
from merge_gym.suites.sequences import by_example

PLAIN = Setting(chunk=64, convolved=False)
"""How the plain path runs layers; its chunks are the batches of `ReferenceEvaluator`."""

LARGE_ARRAY = 31 * 2**20
"""Bytes of an array that raises glibc's thresholds nearly as far as they go."""

TOLERANCE = 1e-5
"""How far a logit of the fused path may lie from the plain path's."""

ENTRY_BYTES = 768
"""What a remembered score takes beside its values: key, bytes object, dictionary entry."""

READOUTS = 8 * 2**20
"""Bytes of calibrated heads that are remembered."""

READOUT_BYTES = 4096
"""What one of them takes beside its weights."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

PLACEMENTS = (None, "device", "host")

Path = tuple[tuple[bytes, ...], ...]
"""The digests of a recipe's layers, segment by segment."""


@dataclass
class Counts:
    """Work since the evaluator was made, in examples pushed through one layer.

    Attributes:
        asked: what scoring each recipe by itself would have run.
        full: layers that ran whole.
        last: last layers that ran only where the head reads them.
    """

    asked: int = 0
    full: int = 0
    last: int = 0


class Evaluator(ModelScorer):
    """Scores recipes as `ReferenceEvaluator` does, several times cheaper.

    Recipes share the hidden states of their common prefixes, scores are remembered, stems run once
    for each subset, and layers are run with the bank's own tensors. On the fused path, of the last
    layer only the tokens that the head reads are computed where the adapter offers it, and linear
    layers are convolutions where those are faster (`products`); this moves logits by less than
    1e-5, so an example whose two largest logits are closer than twice that is decided by the plain
    path. Metrics for which more than the largest logit counts take the plain path throughout.
    Metrics are those of the reference on every example. Threads that share it take turns.

    Args:
        bank: where the recipes' layers come from.
        subsets: S, in how many slices the search split is dealt.
        device: where the models run.
        cache_bytes: budget of what is remembered: hidden states of stems and prefixes, and scores.
        dtype: precision of weights and hidden states, such as "bfloat16"; scores then differ from
            the reference's.
        placement: `device` holds every candidate that was asked for on the device; `host` holds one
            layer there at a time and copies the others in, for banks larger than its memory. None:
            `device` where nothing is copied (a CPU, the bank's own precision), or copies of all
            candidates take at most half of the free memory. Where the bank itself lies, in memory
            or in mapped files, `load_suite` decides.
        fused: False follows the reference operation by operation; in float32 on one CPU thread
            its logits are then equal to the bit.

    Attributes:
        counts: layer forwards asked for and executed so far.

    Raises:
        ValueError: S exceeds the smallest search split; a device that is not there; a budget that
            does not hold one prefix.
    """

    def __init__(
        self,
        bank: LayerBank,
        subsets: int = 10,
        device: str = "cpu",
        cache_bytes: int = 512 * 2**20,
        dtype: str = "float32",
        placement: str | None = None,
        fused: bool = True,
    ) -> None:
        if placement not in PLACEMENTS:
            raise ValueError(f"placement is device, host or None, got {placement!r}")
        if dtype not in DTYPES:
            raise ValueError(unknown_name("dtype", dtype, DTYPES))
        super().__init__(bank, subsets)
        self._made_with = (bank, subsets, device, cache_bytes, dtype, placement, fused)
        self.device, self.dtype = check_device(device), DTYPES[dtype]
        self.fused = fused
        self.counts = Counts()
        self._turn = threading.RLock()
        self._adapter = bank.suite.adapter
        self._final = list(bank.candidates.segments)[-1]
        placement = placement or choose_placement(bank, self.device, self.dtype)
        self._modules = Modules(bank, self.device, self.dtype, placement)
        self._chunks = Chunks(self.examples, self.device, self.dtype)
        _keep_freed_memory()
        self._setting = self._calibrate()
        self._stems: Memo[tuple[Tensor, Any]] = Memo(cache_bytes // 8)
        self._memo: Memo[bytes] = Memo(cache_bytes // 64)
        self._readouts: Memo[Readout] = Memo(READOUTS)
        self._caches = self._build_caches(cache_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made with; nothing is remembered."""
        return type(self), self._made_with

    def evaluate(self, requests: Sequence[Request]) -> list[Outcome]:
        with self._turn:
            return super().evaluate(requests)

    def logits(
        self, recipe: Recipe, task: str, split: str = "search", subset: int | None = None
    ) -> Tensor:
        """The head's output for each example of a task, shape (n, classes), float32, on the CPU."""
        with self._turn, torch.inference_mode():
            return self._all_logits(recipe, task, split, subset)

    def _all_logits(self, recipe: Recipe, task: str, split: str, subset: int | None) -> Tensor:
        recipe = self.bank.resolve(recipe)
        path = self._path(recipe)
        if self._in_one(task, split, subset):
            return self._logits(recipe, path, task, split, subset)
        parts = [self._logits(recipe, path, task, split, each) for each in range(self.subset_count)]
        return torch.cat(parts)[torch.from_numpy(self.examples.subsets[task].order).argsort()]

    def order(self, recipes: Sequence[Recipe]) -> Sequence[int]:
        """By their layers, so that recipes with a common prefix follow one another."""
        return sorted(range(len(recipes)), key=lambda place: self._path(recipes[place]))

    def part(
        self, recipe: Recipe, task: str, split: str, subset: int | None
    ) -> NDArray[np.float32]:
        path = self._path(recipe)
        values = self._remembered(recipe, path, task, split, subset)
        self.counts.asked += recipe.depth * len(values)
        return values

    def forget(self) -> None:
        """Drop all remembered scores and hidden states but those of the stems."""
        with self._turn:
            self._memo.clear()
            for cache in self._caches.values():
                cache.clear()

    def _remembered(
        self, recipe: Recipe, path: Path, task: str, split: str, subset: int | None
    ) -> NDArray[np.float32]:
        """The values from memory, those of a subset also from the whole split's, or computed."""
        key = (recipe.shared, recipe.heads, path, task, split)
        kept = self._memo.get((*key, subset))
        if kept is not None:
            return np.frombuffer(kept, dtype=np.float32)
        rows = self.examples.rows(task, subset)
        if rows is not None and (kept := self._memo.get((*key, None))) is not None:
            return np.frombuffer(kept, dtype=np.float32)[rows]
        values = self._computed(recipe, path, task, split, subset)
        kept = values.tobytes()  # small arrays would fragment the heap
        self._memo.put((*key, subset), kept, len(kept) + ENTRY_BYTES)
        return np.frombuffer(kept, dtype=np.float32)

    def _computed(
        self, recipe: Recipe, path: Path, task: str, split: str, subset: int | None
    ) -> NDArray[np.float32]:
        """The values of the examples; of a whole split subset by subset where some are known, or
        where chunks of several would have other bits."""
        key = (recipe.shared, recipe.heads, path, task, split)
        subsets = range(self.subset_count)
        known = any(self._memo.get((*key, each)) is not None for each in subsets)
        if subset is None and split == "search" and (known or not self._in_one(task, split, None)):
            parts = [self._remembered(recipe, path, task, split, each) for each in subsets]
            return self.examples.subsets[task].in_order(np.concatenate(parts))
        return self._run_part(recipe, path, task, split, subset)

    @torch.inference_mode()
    def _run_part(
        self, recipe: Recipe, path: Path, task: str, split: str, subset: int | None
    ) -> NDArray[np.float32]:
        values = [
            self.measured(
                recipe,
                task,
                self._chunk_logits(recipe, path, chunk),
                self._chunks.labels(chunk),
                self._chunks.targets(chunk),
            )
            for chunk in self._deal(task, split, subset)
        ]
        return torch.cat(values).numpy()

    def _logits(
        self, recipe: Recipe, path: Path, task: str, split: str, subset: int | None
    ) -> Tensor:
        chunks = self._deal(task, split, subset)
        return torch.cat([self._chunk_logits(recipe, path, chunk) for chunk in chunks])

    def _in_one(self, task: str, split: str, subset: int | None) -> bool:
        """Whether these examples may be dealt into chunks together: across subsets only where a
        chunk's size decides nothing."""
        return split != "search" or subset is not None or self._is_fused(task)

    def _path(self, recipe: Recipe) -> Path:
        return tuple(
            tuple(self._modules.digest(segment, layer) for layer in layers)
            for segment, layers in recipe.segments
        )

    def _chunk_logits(self, recipe: Recipe, path: Path, chunk: Chunk) -> Tensor:
        """Logits on the CPU, by the plain path where rounding could decide which comes first."""
        logits = self._run(recipe, path, chunk).float().cpu()
        if self._is_fused(chunk.task) and self.dtype == torch.float32:
            best = logits.topk(min(2, logits.shape[-1])).values
            for row in (best[:, 0] - best[:, -1] <= 2 * TOLERANCE).nonzero().flatten().tolist():
                plain, place = self._chunks.around(chunk, row, PLAIN.chunk)
                logits[row] = self._run_plainly(recipe, plain)[place].cpu()
        return logits

    def _run(self, recipe: Recipe, path: Path, chunk: Chunk) -> Tensor:
        """Logits of a chunk, beginning at the longest prefixes that are remembered."""
        model = self._modules.model(recipe.shared, chunk.task)
        inputs = self._chunks.inputs(chunk)
        hidden = None
        foot: Hashable = (chunk, recipe.shared[0][1])  # the stem; the norm comes after the layers
        for (segment, layers), numbers in zip(recipe.segments, path, strict=True):
            if hidden is None:
                hidden, context = self._stem(model, segment, inputs, foot)
            else:
                hidden, context = self._adapter.enter(model, segment, inputs, hidden)
            hidden = self._climb(chunk, segment, layers, numbers, foot, hidden, context)
            foot = (foot, numbers, recipe.shared)
        assert hidden is not None
        return by_example(self._tail(recipe, chunk.task, hidden, inputs), len(chunk))

    def _stem(self, model: Any, segment: str, inputs: Inputs, key: Hashable) -> tuple[Tensor, Any]:
        """The foot of the first segment, which all recipes share."""
        entered = self._stems.get(key)
        if entered is None:
            entered = self._adapter.enter(model, segment, inputs, None)
            self._stems.put(key, entered, entered[0].nbytes)
        return entered

    def _climb(
        self,
        chunk: Chunk,
        segment: str,
        layers: tuple[Layer, ...],
        numbers: tuple[bytes, ...],
        foot: Hashable,
        hidden: Tensor,
        context: Any,
    ) -> Tensor:
        """Hidden states through the layers of a segment."""
        cache, top = self._caches[segment], len(layers)
        keys = [(foot, numbers[:length]) for length in range(top + 1)]
        known = next((length for length in range(top, 0, -1) if keys[length] in cache), 0)
        if known:
            hidden = cache.get(keys[known])
        for length in range(known + 1, top + 1):
            convolved = self._setting.convolved and self._is_fused(chunk.task)
            module = self._modules.layer(segment, layers[length - 1], convolved)
            if length == top and segment == self._final:
                return self._last_layer(chunk, module, hidden, context)
            hidden = self._adapter.layer(module, hidden, context)
            self.counts.full += len(chunk)
            cache.put(keys[length], hidden)
        return hidden

    def _last_layer(self, chunk: Chunk, module: nn.Module, hidden: Tensor, context: Any) -> Tensor:
        if self._is_fused(chunk.task) and self._adapter.last_layer is not None:
            self.counts.last += len(chunk)
            return self._adapter.last_layer(module, hidden, context)
        self.counts.full += len(chunk)
        return self._adapter.layer(module, hidden, context)

    def _is_fused(self, task: str) -> bool:
        """Only where the largest logit alone counts: other metrics show every rounding."""
        return self.fused and METRICS[self.bank.suite.tasks[task].metric].argmax_only

    def _deal(self, task: str, split: str, subset: int | None) -> list[Chunk]:
        if self._is_fused(task):
            return self._chunks.deal_evenly(task, split, subset, self._setting.chunk)
        return self._chunks.deal(task, split, subset, PLAIN.chunk)

    def _run_plainly(self, recipe: Recipe, chunk: Chunk) -> Tensor:
        """Logits of a chunk as the reference computes them, nothing remembered."""
        model = self._modules.model(recipe.shared, chunk.task)
        inputs = self._chunks.inputs(chunk)
        hidden = None
        for segment, layers in recipe.segments:
            hidden, context = self._adapter.enter(model, segment, inputs, hidden)
            for layer in layers:
                module = self._modules.layer(segment, layer)
                hidden = self._adapter.layer(module, hidden, context)
        self.counts.full += recipe.depth * len(chunk)
        assert hidden is not None
        return by_example(self._tail(recipe, chunk.task, hidden, inputs), len(chunk))

    def _tail(self, recipe: Recipe, task: str, hidden: Tensor, inputs: Inputs) -> Tensor:
        """Logits of the last hidden states, by the expert's own head or a calibrated one."""
        model = self._modules.model(recipe.shared, task)
        if recipe.heads is None:
            return self._adapter.tail(model, hidden, inputs)
        assert self._adapter.features is not None
        readout = self._readouts.get((recipe, task))
        if readout is None:
            readout = calibrated_readout(recipe, self.bank, task)
            self._readouts.put((recipe, task), readout, READOUT_BYTES + readout.weight.nbytes)
        features = self._adapter.features(model, hidden, inputs)
        weight, bias = readout.weight, readout.bias
        return functional.linear(
            features,
            weight.to(self.device, self.dtype),
            None if bias is None else bias.to(self.device, self.dtype),
        )

    @torch.inference_mode()
    def _calibrate(self) -> Setting:
        """The plain setting where no task takes the fused path."""
        fused = [task for task in self.bank.suite.tasks if self._is_fused(task)]
        if not fused:
            return PLAIN
        segment = next(iter(self.bank.candidates.segments))
        model = self._modules.model(self.bank.candidates.shared, fused[0])

        def prepare(setting: Setting) -> tuple[Callable[[], object], int]:
            first = Layer.of(0, self.bank.candidates.sources[0])
            module = self._modules.layer(segment, first, setting.convolved)
            chunk = self._chunks.deal(fused[0], "search", None, setting.chunk)[0]
            entered = self._adapter.enter(model, segment, self._chunks.inputs(chunk), None)
            return partial(self._adapter.layer, module, *entered), len(chunk)

        floats = self.device.type == "cpu" and self.dtype == torch.float32
        return calibrate(prepare, (False, True) if floats else (False,), self.device)

    @torch.inference_mode()
    def _build_caches(self, cache_bytes: int) -> dict[str, ActivationCache]:
        """A slab for each segment, the budget shared in proportion to depth times width."""
        widths, sequences = self._widths()
        values = sum(
            widths[segment] * depth for segment, depth in self.bank.candidates.segments.items()
        )
        row_bytes = values * self.dtype.itemsize
        slabs = cache_bytes - self._stems.budget - self._memo.budget
        rows, needed = slabs // row_bytes, sequences * max(self._setting.chunk, PLAIN.chunk)
        if rows < needed:
            raise ValueError(
                f"cache_bytes={cache_bytes} does not hold the prefixes of one recipe; with chunks "
                f"of {needed} sequences and {row_bytes} bytes a sequence, give at least "
                f"{-(-needed * row_bytes * 64 // 55)}"
            )
        return {
            segment: ActivationCache(depth * rows, widths[segment], self.dtype, self.device)
            for segment, depth in self.bank.candidates.segments.items()
        }

    def _widths(self) -> tuple[dict[str, int], int]:
        """Values of a sequence's hidden states in each segment, and sequences of an example; the
        most over tasks and splits."""
        widths, sequences = dict.fromkeys(self.bank.candidates.segments, 0), 1
        for task in self.bank.suite.tasks.values():
            model = self._modules.model(self.bank.candidates.shared, task.name)
            for split in task.splits:
                inputs = self._chunks.inputs(Chunk(task.name, split, None, 0, 1))
                hidden = None
                for segment in widths:
                    hidden, _ = self._adapter.enter(model, segment, inputs, hidden)
                    widths[segment] = max(widths[segment], hidden[0].numel())
                    sequences = max(sequences, len(hidden))
        return widths, sequences


def _keep_freed_memory() -> None:
    """Let glibc keep what a layer's intermediate results took for those of the next layer.

    It hands freed memory back to the system, and takes it again page by page, by thresholds that
    follow the largest array freed so far (mallopt(3), M_MMAP_THRESHOLD), 32 MiB at most.
    """
    torch.empty(LARGE_ARRAY, dtype=torch.uint8)
