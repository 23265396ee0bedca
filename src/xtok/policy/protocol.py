"""What a policy is shown and what it answers.

# H goals of one act, D = 26 channels of arms26
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

# Name -> value: camera -> image [S, S, 3] uint8; "state" -> present pose [26] float32 in the units of arms26;
# "instruction" and "subtask" -> str. A robot without cameras has no images.
Observation = Mapping[str, Any]


class Policy(Protocol):
    """What acts. One object serves many episodes; `reset` tells that a new one begins."""

    def reset(self, instruction: str) -> None: ...

    def act(self, observation: Observation) -> np.ndarray:
        """Absolute goals [H, 26] of arms26 for the next H steps, any H >= 1."""
        ...
