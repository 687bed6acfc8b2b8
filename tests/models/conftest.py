from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.models.family import PlainProcess


@pytest.fixture(scope="session")
def plain() -> Iterator[PlainProcess]:
    process = PlainProcess()
    yield process
    process.close()
