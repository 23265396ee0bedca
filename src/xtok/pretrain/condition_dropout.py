"""What a training step withholds: state and robot from some chunks, levels from the decoder.

docs/method.md#encoder-quantizer-decoder.

# B chunks, D channels
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from xtok.actions.embodiments import NONE_SLOT
from xtok.codec.encoder import Conditions
from xtok.pretrain.recipe import Recipe


def drop_conditions(given: Conditions, recipe: Recipe, generator: torch.Generator) -> Conditions:
    """docs/method.md#encoder-quantizer-decoder: withhold state and robot from some chunks, independently, so that all
    four combinations work."""
    return withhold(given, recipe, draw_withheld(len(given.slot_B), generator))


def draw_withheld(B: int, generator: torch.Generator) -> Float[Tensor, "2 B"]:
    """A number in [0, 1) for the state and one for the robot of each chunk; what is withheld has a small one."""
    return torch.rand(2, B, generator=generator)


def withhold(given: Conditions, recipe: Recipe, drawn_2B: Float[Tensor, "2 B"]) -> Conditions:
    """Conditions as those numbers leave them."""
    state_B, robot_B = drawn_2B.to(given.slot_B.device)
    return replace(
        given,
        state_BD=torch.where(state_B[:, None] < recipe.masking.state_dropout, 0.0, given.state_BD),
        slot_B=torch.where(robot_B < recipe.masking.embodiment_dropout, NONE_SLOT, given.slot_B),
    )


def draw_levels(recipe: Recipe, generator: torch.Generator) -> int:
    """How many levels the decoder sees of a batch."""
    dropped = float(torch.rand((), generator=generator)) < recipe.masking.level_dropout
    some = int(torch.randint(1, recipe.codec.levels + 1, (), generator=generator))
    return some if dropped else recipe.codec.levels
