"""Shared by all tests: one thread (two cores run two test processes), silence from the libraries, and options.

pytest --slow                              also the long ones
pytest tests/trainers/seam/test_exactness.py --credit mine --config-dir my_configs
                                           holds a strategy of your own to the exactness promise
"""

from __future__ import annotations

import gc
import os
import sys
from functools import cache
from pathlib import Path

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("ACCELERATE_USE_CPU", "true")

import pytest
import torch
from accelerate.utils import imports as imports_of_accelerate
from hypothesis import settings

settings.register_profile("house", max_examples=30, deadline=None)
settings.load_profile("house")

sys.path.insert(0, str(Path(__file__).parent))  # helpers: `from support.tiny import ...`
torch.set_num_threads(1)
# Every training asks the disk a dozen times whether peft is installed: a sixth of a small one.
if ask := getattr(imports_of_accelerate, "_is_package_available", None):
    imports_of_accelerate._is_package_available = cache(ask)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run tests marked slow")
    parser.addoption("--credit", action="append", default=[], help="credit strategies to hold to the exactness promise")
    parser.addoption(
        "--config-dir", action="append", default=[], help="folder of your own YAMLs, laid out like configs/"
    )
    parser.addoption(
        "--set", action="append", default=[], help="trainer option of the exactness test, e.g. --set trainer.beta=0.1"
    )


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session")
def server():
    """Runs commands in processes of their own, without the seconds in which each would import the libraries."""
    from support.killing import ForkServer

    with ForkServer() as server:
        yield server


def pytest_collection_finish(session):
    gc.freeze()  # every training collects garbage first; half its time here would go into walking the imported libraries
