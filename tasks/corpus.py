"""Plain texts to learn, of a file or made up: the likelihood stage without questions and answers.

    accelerate launch train_sft.py task=corpus weight=seq_mean
    accelerate launch train_sft.py task=corpus task.path=poems.txt model=hf model.name=...

The made-up stories have one to twelve sentences; each is a little more likely to be the last the more often the hero
has come up, so that how long a story goes on depends on what is in it. There are no rewards: train_grpo.py needs
`reward=...`.
"""

from __future__ import annotations

import hashlib
import random
from itertools import groupby

from tasks.base import Row, Task
from userio.read import SUFFIXES, TEXT, existing, kind_of, nearest, read_lines, read_rows

PROMPT = "story:"
NOUNS = ("fox", "hen", "dog", "cat", "cow", "owl", "pig", "bee", "ant", "elk")
VERBS = ("saw", "met", "fed", "led", "hid")
ADJECTIVES = ("red", "old", "sad", "shy", "big")
WORDS = ("the", *NOUNS, *VERBS, *ADJECTIVES, "and", "slept", ".")
VOCABULARY = (PROMPT, *(f" {word}" for word in WORDS))
MOST_SENTENCES = 12
UNITS = ("line", "paragraph")
RESERVED = 256  # made-up stories kept for evaluation, however few are asked for


def corpus(
    path: str | None = None,
    unit: str = "line",
    text_column: str = "text",
    prompt: str | None = None,
    n_train: int = 4096,
    n_eval: int = 256,
    name: str = "corpus",
    seed: int = 0,
) -> Task:
    """Texts as completions of one fixed prompt, which stands where a beginning-of-text token would.

    Args:
        path: .txt (see `unit`), or .jsonl, .json, .csv, .parquet with a column of texts, .gz or not; None: made-up
            stories.
        unit: what one text of a .txt file is: a "line" that is not empty, or a "paragraph" between empty lines.
        text_column: where a table has the texts.
        prompt: None: "story:" for the stories, a line break for a file.
        n_train: made-up stories to train on; a file is used whole.
        n_eval: texts held out; at most half of a file, chosen by a hash, so that the choice does not move when rows are
            added.
        name: of the task, for the run's folder.
        seed: of the stories and of the held-out choice.

    Raises:
        ValueError: no such file or column, nothing in it, or numbers out of range.
    """
    if n_train < 1 or n_eval < 0:
        raise ValueError(f"task.n_train must be at least 1 and n_eval at least 0, got {n_train} and {n_eval}.")
    if path is None:
        apart = max(n_eval, RESERVED)  # a smaller evaluation makes no other training data
        pool = stories(n_train + apart, seed)
        train, held_out = pool[apart:], pool[:n_eval]
        opening, vocabulary = PROMPT if prompt is None else prompt, VOCABULARY
        if opening not in vocabulary:
            raise ValueError(f"task.prompt={opening!r}: the made-up stories have the one prompt {PROMPT!r}.")
    else:
        texts = _texts(path, unit, text_column)
        train, held_out = _split(texts, n_eval, seed)
        opening, vocabulary = "\n" if prompt is None else prompt, None
        if not opening:
            raise ValueError("task.prompt is empty; a causal model needs something to start from, as a line break.")

    def rows(texts: list[str]) -> list[Row]:
        return [{"prompt": opening, "completion": text} for text in texts]

    def demonstrations(count: int, seed: int) -> list[Row]:
        """Rounds over the training texts, each in a new order."""
        rng, chosen = random.Random(f"corpus demonstrations {seed}"), []
        while len(chosen) < count:
            chosen += rng.sample(train, len(train))
        return rows(chosen[:count])

    return Task(
        name=name,
        train=rows(train),
        evaluation=rows(held_out),
        reward_funcs=[],
        reward_weights=[],
        vocabulary=vocabulary,
        demonstrations=demonstrations,
        max_completion_length=max(len(text.split()) for text in train) + 1 if path is None else None,
    )


def stories(count: int, seed: int) -> list[str]:
    """Made-up stories, the same for the same arguments."""
    rng = random.Random(f"corpus stories {seed}")
    return [_story(rng) for _ in range(count)]


def _story(rng: random.Random) -> str:
    hero, sentences, seen = rng.choice(NOUNS), [], 0
    while len(sentences) < MOST_SENTENCES:
        subject = hero if rng.random() < 0.6 else rng.choice(NOUNS)
        seen += subject == hero
        words = ["the", *([rng.choice(ADJECTIVES)] if rng.random() < 0.3 else []), subject]
        if rng.random() < 0.2:
            words += ["and", "the", rng.choice(NOUNS)]
        words += ["slept"] if rng.random() < 0.2 else [rng.choice(VERBS), "the", rng.choice(NOUNS)]
        sentences.append(" ".join([*words, "."]))
        if rng.random() < 0.1 + 0.08 * seen:
            break
    return " " + " ".join(sentences)


def _texts(path: str, unit: str, column: str) -> list[str]:
    if kind_of(path) not in (TEXT, *SUFFIXES):
        raise ValueError(f"task.path={path}: .txt, {', '.join(SUFFIXES)} can be read.")
    file = existing(path, "task.path")
    if kind_of(file) == TEXT:
        if unit not in UNITS:
            raise ValueError(f"task.unit={unit}: choose one of {', '.join(UNITS)}.{nearest(unit, UNITS)}")
        lines = [line for _, line in read_lines(file, "task.path")]
        texts = lines if unit == "line" else _paragraphs(lines)
    else:
        table = read_rows(file, "task.path")
        names = list(dict.fromkeys(key for _, row in table for key in row))
        if column not in names:
            raise ValueError(f"{path} has no column {column!r} (task.text_column).{nearest(column, names)}")
        texts = [row.get(column) for _, row in table]
        for (place, _), text in zip(table, texts, strict=True):
            if not isinstance(text, str):
                raise ValueError(f"{place}: {column!r} must be a text, got {text!r:.100}.")
    kept = [text.strip() for text in texts if text.strip()]
    if len(kept) < 2:
        raise ValueError(f"task.path={path} has {len(kept)} texts; at least two are needed, one of them held out.")
    return kept


def _paragraphs(lines: list[str]) -> list[str]:
    """What stands between empty lines."""
    return ["\n".join(part) for blank, part in groupby(lines, key=lambda line: not line.strip()) if not blank]


def _split(texts: list[str], n_eval: int, seed: int) -> tuple[list[str], list[str]]:
    """Training and held-out texts; no text stands in both."""
    distinct = sorted(dict.fromkeys(texts), key=lambda text: hashlib.sha256(f"{seed} {text}".encode()).digest())
    held_out = set(distinct[: min(n_eval, len(distinct) // 2)])
    return [text for text in texts if text not in held_out], [text for text in distinct if text in held_out]
