"""The gradient the lab predicts is the one `CreditGRPOTrainer` computes on the same rollouts of the same model."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("trl")

from configs.compose import compose_strategy
from lab.exact.of_model import OfModel
from lab.exact.quantities import Exact
from lab.exact.tree import grow
from lab.exact.world import END, World
from lab.measure.estimate import measure
from lab.measure.scoring import Scorer
from support.exact.replay import FixedRollouts, replay_gradient
from support.tiny import LETTERS, tiny_model, tiny_tokenizer

PROMPT_IDS = {"p": [5, 6], "q": [7]}
SIZE = 4


def game() -> World:
    """Texts of at most two tokens over the whole vocabulary of the tiny model; every reward is a little different."""
    return World(
        name="letters",
        meaning="",
        prompts=tuple(PROMPT_IDS),
        actions=("<pad>", END, "<unk>", *LETTERS),
        reward=lambda prompt, text: float(text[0] in "abc") + 0.25 * float(prompt == "q") * (len(text) == 2),
        deciding=lambda prompt, text: {0, 1},
        max_length=2,
    )


@pytest.fixture(scope="module")
def learner() -> Exact:
    tree = grow(game())
    return Exact(tree, OfModel(tree, tiny_model(tie_word_embeddings=False), PROMPT_IDS))


def draw(learner: Exact, batches: int, seed: int) -> torch.Tensor:
    """(batches, P * SIZE) texts, prompt by prompt."""
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.arange(learner.prompts).repeat_interleave(SIZE)
    probs = learner.probs_N * (learner.tree.prompt_N == prompts[:, None])
    return torch.stack([torch.multinomial(probs, 1, generator=generator).flatten() for _ in range(batches)])


def of_trainer(learner: Exact, texts_R: torch.Tensor, strategy) -> torch.Tensor:
    """Minus the gradient of the trainer's loss, as one vector. Every SIZE rows in a row are one group."""
    tree = learner.tree
    starts = texts_R[::SIZE]
    rollouts = FixedRollouts(
        prompt_ids=[PROMPT_IDS[tree.world.prompts[int(tree.prompt_N[n])]] for n in starts],
        completion_ids=[tree.token_ids_NT[n][tree.written_NT[n]].tolist() for n in texts_R],
        rewards=tree.rewards_N[texts_R].tolist(),
    )
    model = tiny_model(tie_word_embeddings=False)
    gradients = replay_gradient(model, tiny_tokenizer(), rollouts, strategy, max_completion_length=2)
    return -torch.cat([gradients[name].double().flatten() for name in learner.policy.shapes])


def of_lab(learner: Exact, texts_R: torch.Tensor, strategy) -> torch.Tensor:
    """The lab's estimate for the same batch: coefficients times scores."""
    group_R = torch.arange(len(texts_R)) // SIZE
    _, coefficients_RT = Scorer(strategy, learner).rows(texts_R, group_R)
    table_NT = torch.zeros(learner.tree.mask_NT.shape, dtype=torch.float64).index_add_(0, texts_R, coefficients_RT)
    return learner.pull(table_NT)


@pytest.mark.parametrize("name", ["uniform", "seq_norm", "dr_grpo", "opo_loo"])
def test_the_trainer_computes_the_gradient_the_lab_predicts(learner, name):
    strategy = compose_strategy([f"credit={name}"])
    batches = draw(learner, batches=2, seed=3)
    from_trainer = torch.stack([of_trainer(learner, texts_R, strategy) for texts_R in batches]).mean(dim=0)
    from_lab = torch.stack([of_lab(learner, texts_R, strategy) for texts_R in batches]).mean(dim=0)
    assert from_lab.norm() > 1e-3
    assert (from_trainer - from_lab).norm() <= 1e-5 * from_lab.norm()


def test_the_average_of_many_trainer_gradients_is_the_enumerated_mean_within_its_error(learner):
    """32 batches of leave-one-out in one call of the trainer, where groups do not touch each other."""
    strategy, batches = compose_strategy(["credit=rloo"]), 32
    texts_R = draw(learner, batches, seed=4).flatten()
    average = of_trainer(learner, texts_R, strategy)
    truth = learner.reward_gradient
    deviations = [of_lab(learner, part, strategy) - truth for part in texts_R.view(batches, -1)]
    error = torch.stack(deviations).square().sum() / batches**2
    assert (average - truth).square().sum() <= 3 * error
    assert (average - truth).norm() < 0.5 * truth.norm()


@pytest.mark.slow
def test_enumeration_works_on_a_transformers_model(learner):
    found = measure(learner, compose_strategy(["credit=rloo"]), 2)
    # Parts of a transformers model compute in single precision whatever its parameters are.
    assert found.exact and found["relative_bias"] < 1e-5 and abs(found["scale"] - 1) < 1e-5
