"""Values that are kept up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """Values by key, up to a number of bytes in all; the least recently used make room. A copy, or
    one that was pickled, is empty."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple[type[Memo[T]], tuple[int]]:
        """What is remembered does not travel."""
        return Memo, (self.budget,)

    def get(self, key: Hashable) -> T | None:
        """What was put under `key`; None if it is not there."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: Hashable, value: T, size: int) -> None:
        """Keep `value`, which takes `size` bytes, in place of what may be there."""
        if key in self._values:
            self.used -= self._values.pop(key)[1]
        self._values[key] = (value, size)
        self.used += size
        while self.used > self.budget:
            _, (_, freed) = self._values.popitem(last=False)
            self.used -= freed

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self.used = 0
