"""Characters are mapped to the tokens that wrote them, exactly, whatever the tokenizer."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rewards.tags import think_answer
from rewards.text.spans import Span
from trainers.seam import token_spans as spans_module
from trainers.seam.token_spans import character_ends, span_rewards, token_spans

ALPHABET = sorted(spans_module._byte_table(), key=spans_module._byte_table().get)


def byte_level():
    """Every byte is a token, some merges cross the bounds of characters, and there are special and added tokens."""
    vocabulary = {character: place for place, character in enumerate(ALPHABET)}
    e_acute, grin = [ALPHABET[b] for b in "é".encode()], [ALPHABET[b] for b in "😀".encode()]
    merges = [("a", "b"), ("<", "t"), (grin[0], grin[1]), (grin[2], grin[3]), ("a", e_acute[0])]
    for pair in merges:
        vocabulary["".join(pair)] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")
    fast.add_tokens(["<think>", "été"])
    return fast


def closed():
    """A closed vocabulary of whole words and letters, decoded by joining."""
    words = ["<pad>", "<eos>", "<think>", "</think>", "<answer>", "</answer>", " ", *"0123456789+=é"]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"</?\w+>|."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


def metaspace():
    """SentencePiece style: a blank before a word belongs to the word, and the first one is not decoded."""
    pieces = ["<unk>", "<eos>", "▁the", "▁cat", "▁", "s", "at", "▁s", "é", "<pad>"]
    tokenizer = Tokenizer(models.WordLevel({piece: place for place, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


TOKENIZERS = {"byte level": byte_level(), "closed": closed(), "metaspace": metaspace()}


def ids_of(name):
    return st.lists(st.integers(0, len(TOKENIZERS[name]) - 1), min_size=1, max_size=25)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_prefix_of_tokens_completes_the_characters_it_decodes_to(name):
    tokenizer = TOKENIZERS[name]

    @given(ids_of(name))
    @settings(deadline=None, max_examples=150)
    def check(ids):
        text = tokenizer.decode(ids, skip_special_tokens=True)
        ends = character_ends(tokenizer, ids, text)
        assert len(ends) == len(ids) and ends[-1] == len(text)
        assert ends == sorted(ends)
        for token, end in enumerate(ends):
            prefix = tokenizer.decode(ids[: token + 1], skip_special_tokens=True)
            assert prefix[:end] == text[:end]  # complete: later tokens do not change them
            if not prefix.endswith("\ufffd"):
                assert end == len(prefix)  # and all of them are counted

    check()


def bytes_of(text):
    return [ALPHABET[byte] for byte in text.encode()]


@given(
    st.one_of(
        ids_of("byte level"),
        st.text("ab<é😀", min_size=1, max_size=8).map(
            lambda text: TOKENIZERS["byte level"].convert_tokens_to_ids(bytes_of(text))
        ),
    )
)
@example([260, 128])  # "a" and half of what comes after it, in one token
@settings(deadline=None, max_examples=150)
def test_the_three_ways_to_count_agree(ids):
    tokenizer = TOKENIZERS["byte level"]
    text = tokenizer.decode(ids, skip_special_tokens=True)
    by_bytes = spans_module._by_bytes(tokenizer, ids, text)
    assert by_bytes is not None
    if "\ufffd" not in text:
        assert (
            by_bytes == spans_module._by_pieces(tokenizer, ids, text) == spans_module._by_prefixes(tokenizer, ids, text)
        )


@pytest.mark.parametrize("name", TOKENIZERS)
def test_nothing_is_lost_between_characters_and_tokens(name):
    tokenizer = TOKENIZERS[name]

    @given(ids_of(name), st.data())
    @settings(deadline=None, max_examples=80)
    def check(ids, data):
        text = tokenizer.decode(ids, skip_special_tokens=True)
        place = st.integers(0, len(text))
        bounds = data.draw(st.lists(st.tuples(place, place, st.floats(-2, 2)), max_size=6))
        spans = [Span(min(a, b), max(a, b), value) for a, b, value in bounds]
        (earned,) = token_spans(tokenizer, [ids], [text], [spans])
        assert len(earned) == len(ids)
        assert math.isclose(sum(earned), sum(span.value for span in spans), abs_tol=1e-9)

    check()


def test_a_character_split_over_tokens_is_earned_by_the_token_with_its_last_byte():
    tokenizer = TOKENIZERS["byte level"]
    grin = [ALPHABET[byte] for byte in "😀".encode()]
    pieces = ["a", grin[0] + grin[1], grin[2] + grin[3], "b", "<eos>"]
    ids = tokenizer.convert_tokens_to_ids(pieces)
    spans = [Span(0, 1, 1.0), Span(1, 2, 2.0), Span(0, 3, 4.0), Span(3, 3, 8.0), Span(1, 1, 16.0)]
    assert token_spans(tokenizer, [ids], ["a😀b"], [spans]) == [[1.0, 0.0, 18.0, 4.0, 8.0]]


def test_special_tokens_write_no_characters():
    tokenizer = TOKENIZERS["closed"]
    ids = tokenizer.convert_tokens_to_ids(["<pad>", "<think>", "<eos>", "1", "<eos>"])
    assert character_ends(tokenizer, ids, "<think>1") == [0, 7, 7, 8, 8]


def test_a_text_that_is_only_part_of_what_was_decoded_is_found_and_any_other_counts_at_the_last_token():
    tokenizer = TOKENIZERS["closed"]
    ids = tokenizer.convert_tokens_to_ids(["<think>", "1", "</think>", "2", "<eos>"])
    assert token_spans(tokenizer, [ids], ["1</think>2"], [[Span(0, 1, 1.0)]]) == [[0, 1.0, 0, 0, 0]]
    assert token_spans(tokenizer, [ids], ["parsed"], [[Span(0, 1, 1.0)]]) == [[0, 0, 0, 0, 1.0]]


def test_rows_sum_to_their_weighted_reward_and_abstentions_count_nothing():
    tokenizer = TOKENIZERS["closed"]
    rows = [["<think>", "1", "</think>", "<answer>", "2", "</answer>", "<eos>"], ["1", "2"], []]
    ids = [tokenizer.convert_tokens_to_ids(row) if row else [] for row in rows]
    texts = [tokenizer.decode(row, skip_special_tokens=True) if row else "" for row in ids]

    def plain(completions, **columns):
        return [3.0, None, 3.0]

    scores = [[1.0, 3.0], [0.0, math.nan], [0.0, 3.0]]
    columns = {"answer": ["2"] * 3}
    earned = span_rewards([think_answer(), plain], [0.5, 2.0], scores, tokenizer, [""] * 3, texts, ids, columns)
    assert sum(earned[0]) == pytest.approx(0.5 * 1.0 + 2.0 * 3.0)
    assert earned[0][-1] == pytest.approx(6.0)
    assert earned[0][0] == earned[0][3] == pytest.approx(0.5 * 2 / 8)
    assert earned[1] == [0.0, 0.0] and earned[2] == []


def test_spans_that_do_not_add_up_are_told_and_mended_at_the_last_token(caplog):
    tokenizer = TOKENIZERS["closed"]
    ids = tokenizer.convert_tokens_to_ids(["1", "2"])

    def odd(completions, **columns):
        return [1.0]

    odd.spans = lambda prompts, completions, **columns: [[Span(0, 1, 0.25)]]
    assert span_rewards([odd], [1.0], [[1.0]], tokenizer, [""], ["12"], [ids], {}) == [[0.25, 0.75]]
    assert "'odd' add up to 0.25 where it scored 1" in caplog.text
