"""Answers in the trainer: what is read behind which prefix, by whom, at what cost, and what is refused."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig

from configs.compose import compose_strategy
from credit.turns.index import runs_of
from support.exact.exactness import rich_rollouts
from support.exact.replay import replay_trainer, right_answer
from support.resumed import goes_on_from_everywhere, grpo
from support.tiny import LETTERS, tiny_model, tiny_tokenizer
from trainers.signals.answers import tail_of, texts_of_tokens

ROLLOUTS = rich_rollouts(0)
LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
SETTING = "credit.signals.answers"


def trainer_of(tmp_path, *words, model=None, **options):
    strategy = compose_strategy(["credit=igpo", *words])
    return replay_trainer(model or tiny_model(), tiny_tokenizer(), ROLLOUTS, strategy, str(tmp_path), **options)


def seen_in(trainer) -> dict:
    """What the strategy is shown in a step of training."""
    seen, score = {}, trainer.credit.score
    trainer.credit.score = lambda rollout, *rest: (seen.update(rollout.provided), score(rollout, *rest))[1]
    trainer.train()
    return seen


def plainly(model, before: list[int], answer: list[int], temperature: float) -> float:
    with torch.no_grad():
        logps_SV = (model(torch.tensor([[*before, *answer]])).logits[0] / temperature).log_softmax(-1)
    return sum(float(logps_SV[len(before) - 1 + t, token]) for t, token in enumerate(answer))


def steps(mask):
    return [t for t in range(len(mask)) if t % 3 == 0]


@pytest.mark.parametrize(
    ("words", "peft_config", "begins"),
    [
        ((), None, lambda mask: [run[0] for run in runs_of(mask)]),
        ((f"{SETTING}.opening=bb",), LORA, lambda mask: [run[0] for run in runs_of(mask)]),
        ((f"{SETTING}.cuts={{_target_:credit.signals.cuts.fractions,parts:3}}",), None, None),
    ],
    ids=["turns", "opening, adapter", "fractions"],
)
def test_an_answer_stands_behind_all_that_was_shown_before_its_cut(tmp_path, words, peft_config, begins):
    """Compared with a pass a sequence at a time, tool text in the prefix; an adapter that is new changes nothing yet."""
    seen = seen_in(trainer_of(tmp_path, *words, peft_config=peft_config, temperature=0.7))
    model, tokenizer, found_BC = tiny_model().eval(), tiny_tokenizer(), seen["answer_logps_BC"]
    opening = tokenizer("bb")["input_ids"] if any("opening" in word for word in words) else []
    several = 0
    for b, (ids, tool) in enumerate(zip(ROLLOUTS.completion_ids, ROLLOUTS.tool_mask, strict=True)):
        prompt, mask = ROLLOUTS.prompt_ids[b // 4], [bool(one) for one in tool]
        learning = [t for t, learns in enumerate(mask) if learns]
        thirds = sorted({learning[len(learning) * part // 3] for part in range(3)} if learning else ())
        places = begins(mask) if begins else thirds
        several += len(places) > 1
        answer = right_answer(prompt)
        if answer is None:
            assert found_BC[b].isnan().all() and seen["answer_lengths_B"][b] == 0
            continue
        answer_ids = tokenizer(answer)["input_ids"]
        assert seen["answer_lengths_B"][b] == len(answer_ids)
        expected = [plainly(model, [*prompt, *ids[:place], *opening], answer_ids, 0.7) for place in places]
        assert found_BC[b, : len(places)].tolist() == pytest.approx(expected, abs=2e-5)
        assert found_BC[b, len(places) :].isnan().all()
        piece_T, numbers = seen["piece_BT"][b], [-1] * len(seen["piece_BT"][b])
        for t in learning:
            numbers[t] = sum(place <= t for place in places) - 1
        assert piece_T.tolist() == numbers
    assert several > 3 and not found_BC.requires_grad


def test_what_it_costs_is_counted(tmp_path):
    """A sequence for each piece of a row with an answer, in chunks of the batch size, without gradient."""
    trainer = trainer_of(tmp_path, accumulation=3, logging_strategy="steps", logging_steps=1)
    passes, make = [], trainer._get_per_token_logps_and_entropies

    def counted(model, tokens_BS, mask_BS, *rest, **more):
        if not torch.is_grad_enabled():
            passes.append((len(tokens_BS), int(mask_BS.sum())))
        return make(model, tokens_BS, mask_BS, *rest, **more)

    trainer._get_per_token_logps_and_entropies = counted
    trainer.train()
    sequences, tokens = 0, 0
    for b, tool in enumerate(ROLLOUTS.tool_mask):
        answer = right_answer(ROLLOUTS.prompt_ids[b // 4])
        for run in runs_of([bool(one) for one in tool]) if answer else ():
            sequences += 1
            tokens += len(ROLLOUTS.prompt_ids[b // 4]) + run[0] + len(answer)
    assert sum(rows for rows, _ in passes) == sequences and max(rows for rows, _ in passes) == 8
    assert sum(read for _, read in passes) == tokens == trainer.state.log_history[0]["credit/answer_tokens"]
    assert trainer.state.log_history[0]["credit/signal_time"] > 0


def test_another_model_answers(tmp_path):
    tiny_model(seed=5).save_pretrained(tmp_path / "other")
    words = ("credit/signals=answers_model", f"{SETTING}.name={tmp_path / 'other'}")
    found_BC = seen_in(trainer_of(tmp_path, *words))["answer_logps_BC"]
    number, prompt = next((p, ids) for p, ids in enumerate(ROLLOUTS.prompt_ids) if right_answer(ids))
    expected = plainly(tiny_model(seed=5).eval(), prompt, tiny_tokenizer()(right_answer(prompt))["input_ids"], 1.0)
    assert float(found_BC[4 * number, 0]) == pytest.approx(expected, abs=2e-5)


def test_a_run_whose_average_answers_goes_on_from_a_checkpoint(tmp_path):
    words = f"igpo credit/signals=answers_ema {SETTING}.decay=0.5 {SETTING}.answer={__file__}:first_letter {SETTING}.cuts=fractions"
    goes_on_from_everywhere(grpo(credit=words, max_steps=4), tmp_path, 4, cuts=[2])


def first_letter(prompt, completion, columns):
    return prompt[0]


def wrong(prompt, completion, columns):
    return ["a", "b"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((f"{SETTING}.opening={'a' * 60}",), r"stands behind 6\d: .*the model reads 64"),
        ((f"{SETTING}.answer={__file__}:wrong",), r"wrong.* has \['a', 'b'\] in row 0; an answer is one text"),
        ((f"{SETTING}.cuts={__file__}:backwards",), "backwards.* returned .* for row 0"),
    ],
)
def test_what_cannot_be_read_is_told_at_the_first_batch(tmp_path, words, said):
    with pytest.raises(ValueError, match=said):
        trainer_of(tmp_path, *words).train()


def backwards(tokens, mask):
    return [-1]


def test_a_column_that_is_not_there_is_told_before_a_model_is_loaded(tmp_path):
    with pytest.raises(ValueError, match="no column 'gold'; there is answer, offline_rewards"):
        trainer_of(tmp_path, f"{SETTING}.column=gold", model="no/such/model")


def test_another_model_without_a_name_is_refused_before_it_would_be_loaded(tmp_path):
    with pytest.raises(ValueError, match=r"credit\.signals\.answers\.name=<folder or hub id>"):
        trainer_of(tmp_path, "credit/signals=answers_model")


def test_a_token_that_holds_the_end_of_the_opening_is_the_answers():
    """As it is where a blank belongs to the word behind it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"Answer:": 0, " 42": 1, "<unk>": 2}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(" 42", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    assert tail_of("Answer: ", "42", tokenizer) == ([0], [1])
    with pytest.raises(ValueError, match="has no tokens"):
        tail_of("ab", "", tiny_tokenizer())


def test_texts_of_tokens_make_up_the_text():
    tokenizer, ids_BT = tiny_tokenizer(), torch.tensor([[3, 4, 1, 5], [3, 3, 3, 3]])
    written_BT = torch.tensor([[True, True, True, False], [False] * 4])
    (first, second) = texts_of_tokens(tokenizer, ids_BT, written_BT)
    assert "".join(first) == tokenizer.decode([3, 4, 1], skip_special_tokens=True) and first[2] == ""
    assert second == [] and len(LETTERS) == 8
