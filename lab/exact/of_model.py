"""A language model as a policy of a world, so that all of its texts can be enumerated: its parameters are one vector.

Shapes as in lab/exact/tree.py; D parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lab.exact.tree import Tree


class OfModel:
    """A `TreePolicy` (lab/exact/policies.py). Whatever the world does not forbid is drawn from the model's own probabilities.

    Args:
        tree: of a world whose vocabulary is the model's: token number i of the world is token id i, as far as the world goes.
        model: a causal language model of transformers. Its copy in double precision is what counts; parts of such models compute in
            single precision all the same.
        prompt_ids: token ids of each prompt of the world.

    Attributes:
        shapes: name -> shape of the parameters, in their order in the vector: by name. Weights that are tied count once.

    Raises:
        ValueError: a prompt without ids, or a world with more tokens than the model.
    """

    def __init__(self, tree: Tree, model: nn.Module, prompt_ids: Mapping[str, Sequence[int]]):
        if lacking := [prompt for prompt in tree.world.prompts if not prompt_ids.get(prompt)]:
            raise ValueError(f"world {tree.world.name!r}: prompt {lacking[0]!r} has no token ids.")
        self.tree, self.model, self._prompt_ids = tree, model.double().eval(), prompt_ids
        named = sorted(model.named_parameters())
        self.shapes = {name: parameter.shape for name, parameter in named}
        self.initial = torch.cat([parameter.detach().flatten() for _, parameter in named])
        self._tokens = len(tree.world.actions)
        if (known := int(model.config.vocab_size)) < len(tree.world.vocabulary):  # type: ignore[union-attr,arg-type]
            raise ValueError(
                f"world {tree.world.name!r} has {len(tree.world.vocabulary)} tokens and the model {known}."
            )

    def logits(self, theta: Tensor) -> Tensor:
        """(N, T, A)"""
        return self.tree.only_allowed(self.open_logits(theta))

    def open_logits(self, theta: Tensor) -> Tensor:
        """(N, T, A) the model's, as if the world forbade nothing."""
        return self._before_each_token(theta, lambda made: made.logits)[..., : self._tokens]

    def states(self, theta: Tensor) -> Tensor:
        """(N, T, width) the model's last hidden states before each token, which a value head reads."""
        return self._before_each_token(theta, lambda made: made.hidden_states[-1], output_hidden_states=True)

    def _before_each_token(self, theta: Tensor, wanted: Callable[[Any], Tensor], **options: Any) -> Tensor:
        parts = theta.split([shape.numel() for shape in self.shapes.values()])
        named = {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        tree, found = self.tree, []
        for prompt, name in enumerate(tree.world.prompts):
            ids_NT = tree.token_ids_NT[tree.prompt_N == prompt]
            start = torch.tensor(self._prompt_ids[name]).expand(len(ids_NT), -1)
            inputs = {"input_ids": torch.cat([start, ids_NT], dim=1), **options}
            made = torch.func.functional_call(self.model, named, kwargs=inputs)
            found.append(wanted(made)[:, start.shape[1] - 1 : -1])
        return torch.cat(found)
