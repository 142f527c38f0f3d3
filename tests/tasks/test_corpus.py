"""Plain texts: made-up stories and files, held out without leaks, refused with a reason."""

import json

import pytest

from tasks.corpus import MOST_SENTENCES, VOCABULARY, corpus, stories


def test_stories_are_made_of_the_vocabulary_and_differ_in_length():
    texts = stories(500, seed=0)
    words = {word.strip() for word in VOCABULARY[1:]}
    assert {word for text in texts for word in text.split()} == words
    sentences = [text.count(".") for text in texts]
    assert min(sentences) == 1 and max(sentences) <= MOST_SENTENCES and len(set(sentences)) > 5
    assert stories(500, seed=0) == texts != stories(500, seed=1)


def test_longer_stories_have_another_hero_share():
    """Length depends on content: what ends early has mentioned its hero more often per sentence."""
    texts = stories(4000, seed=0)
    share = {"short": [], "long": []}
    for text in texts:
        subjects = [sentence.split()[1] for sentence in text.strip().split(" .")[:-1]]
        most = max(subjects.count(subject) for subject in subjects) / len(subjects)
        if len(subjects) in (4, 9):
            share["short" if len(subjects) == 4 else "long"].append(most)
    assert sum(share["short"]) / len(share["short"]) > sum(share["long"]) / len(share["long"]) + 0.02


def test_demonstrations_repeat_and_go_round_the_training_texts():
    task = corpus(n_train=10, n_eval=3)
    rows = task.demonstrations(25, 0)
    assert len(rows) == 25 and rows == task.demonstrations(25, 0)
    assert sorted(r["completion"] for r in rows[:10]) == sorted(r["completion"] for r in task.train)


@pytest.mark.parametrize("kind", ["txt", "paragraphs", "jsonl"])
def test_files_become_texts_and_the_held_out_ones_are_not_trained_on(kind, tmp_path):
    texts = [f"line number {i}" for i in range(20)]
    file = tmp_path / ("data.jsonl" if kind == "jsonl" else "data.txt")
    body = {
        "txt": "\n\n".join(texts) + "\n",
        "paragraphs": "\n\n".join(texts),
        "jsonl": "\n".join(json.dumps({"text": text}) for text in texts),
    }[kind]
    file.write_text(body, encoding="utf-8")
    task = corpus(str(file), unit="paragraph" if kind == "paragraphs" else "line", n_eval=5)
    trained, held_out = ({row["completion"] for row in rows} for rows in (task.train, task.evaluation))
    assert len(held_out) == 5 and not trained & held_out and trained | held_out == set(texts)
    assert task.vocabulary is None and {row["prompt"] for row in task.train} == {"\n"}


def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match="no file"):
        corpus(str(tmp_path / "absent.txt"))
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has 0 texts"):
        corpus(str(tmp_path / "empty.txt"))
    (tmp_path / "table.jsonl").write_text('{"texts": "a"}\n{"texts": "b"}', encoding="utf-8")
    with pytest.raises(ValueError, match="texts"):
        corpus(str(tmp_path / "table.jsonl"))
    with pytest.raises(ValueError, match="line, paragraph"):
        corpus(str(tmp_path / "empty.txt"), unit="word")
    with pytest.raises(ValueError, match="can be read"):
        corpus(str(tmp_path / "a.pdf"))
