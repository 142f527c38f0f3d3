"""Progress bars of transformers, where nobody waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as logging_of_transformers


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of transformers and huggingface_hub inside: for weights that are loaded in a blink, and written between
    the lines of a run. Messages and errors are as before, and so are bars afterwards."""
    shown = logging_of_transformers.is_progress_bar_enabled()
    logging_of_transformers.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging_of_transformers.enable_progress_bar()
