"""One environment for each rollout."""

from __future__ import annotations

import pytest

from tasks.environments.factory import guarded_factory


class Counter:
    def reset(self, **row): ...

    def step(self) -> str:
        """Steps."""
        return ""


def test_a_factory_that_gives_the_same_object_twice_is_refused():
    only = Counter()
    make = guarded_factory(lambda: only)
    make()
    with pytest.raises(ValueError, match="same Counter twice"):
        make()
    with pytest.raises(ValueError, match="environment_factory is Counter"):
        guarded_factory(only)
