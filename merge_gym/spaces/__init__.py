"""What may be decided, as values; no torch in here.

Every module in this folder is imported here, so a new space is one new file with a dataclass
decorated by `@space`, whose fields are its settings.
"""

from importlib import import_module
from pkgutil import iter_modules

from merge_gym.spaces.candidates import Candidates
from merge_gym.spaces.space import Decisions, Space, available, make, space

__all__ = ["Candidates", "Decisions", "Space", "available", "make", "space"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
