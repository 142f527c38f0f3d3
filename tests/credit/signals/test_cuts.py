"""Where pieces begin."""

from __future__ import annotations

import pytest
import torch

from credit.signals.answers import numbered_pieces
from credit.signals.cuts import CUTS, cut_points, cuts_of, fractions, paragraphs, sentences, turns

TEXT = ["It", " is", " 3", ".", "14", ".", " So", ' "no', '!"', " Yes", "?\n", "\n", "Done", "\u3002", "\u597d"]


class Texts:
    """Rows of these masks, with the same words in each."""

    def __init__(self, *masks: str):
        self.mask_BT = torch.tensor([[one == "1" for one in mask] for mask in masks])

    def token_texts(self):
        return [TEXT[: self.mask_BT.shape[1]]] * len(self.mask_BT)


def test_a_turn_begins_where_the_policy_has_the_word():
    assert turns([False, True, True, False, True, False, False, True]) == [1, 4, 7]
    assert turns([False, False]) == []


def test_a_sentence_ends_at_a_full_stop_with_a_blank_behind_it_and_at_a_line():
    """3.14 is one number, a closing quote belongs to its sentence, Chinese needs no blank."""
    assert sentences(TEXT, [True] * len(TEXT)) == [0, 6, 9, 12, 14]
    assert paragraphs(TEXT, [True] * len(TEXT)) == [0, 12]


def test_fractions_are_of_learning_tokens():
    assert fractions([True, False, True, True, False, True, True], parts=2) == [0, 3]
    assert fractions([True, True], parts=5) == [0, 1] and fractions([False], parts=3) == []
    with pytest.raises(ValueError, match="whole number of pieces"):
        fractions([True], parts=0)


def test_pieces_begin_at_learning_tokens_and_the_first_always_does():
    rows = Texts("0110111", "1111111", "0000000")
    assert cut_points(rows, lambda mask: [3, 6, 7]) == [[1, 4, 6], [0, 3, 6], []]
    piece_BT = numbered_pieces(cut_points(rows, lambda mask: [3, 6]), rows.mask_BT)
    assert piece_BT.tolist() == [[-1, 0, 0, -1, 1, 1, 2], [0, 0, 0, 1, 1, 1, 2], [-1] * 7]
    assert cut_points(Texts("1" * len(TEXT)), sentences) == [[0, 6, 9, 12, 14]]


@pytest.mark.parametrize("told", [[-1], [99], ["a"], [True], 3, None])
def test_anything_but_token_numbers_is_refused(told):
    with pytest.raises(ValueError, match="it must return a list of token numbers, from 0 to 3"):
        cut_points(Texts("111"), lambda mask: told)


def test_a_function_may_ask_for_what_a_row_has_and_nothing_else():
    assert cuts_of("sentences") is CUTS["sentences"] and cuts_of(turns) is turns
    with pytest.raises(ValueError, match="asks for 'ids'; a row has tokens and mask"):
        cuts_of(lambda ids: [])
    with pytest.raises(ValueError, match="Did you mean fractions"):
        cuts_of("fraction")
