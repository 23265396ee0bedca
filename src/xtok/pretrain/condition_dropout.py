"""What a training step withholds: state and robot from some chunks, levels from the decoder.

docs/method.md#encoder-quantizer-decoder.

# B chunks, D channels
"""

from __future__ import annotations

from dataclasses import replace

import torch

from xtok.actions.embodiments import NONE_SLOT
from xtok.codec.encoder import Conditions
from xtok.pretrain.recipe import Recipe


def drop_conditions(given: Conditions, recipe: Recipe, generator: torch.Generator) -> Conditions:
    """docs/method.md#encoder-quantizer-decoder: withhold state and robot from some chunks, independently, so that all
    four combinations work."""
    device = given.slot_B.device
    state_B, robot_B = torch.rand(2, len(given.slot_B), generator=generator).to(device)
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
