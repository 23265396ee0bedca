"""Digests of a tokenizer: the same for every format of its file, so that an older one can be verified.

A digest is over the configuration and the names and values of tensors as that format has them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from xtok.actions.statistics import Statistics


def hashed(config: Mapping[str, Any], tensors: Mapping[str, Tensor], statistics: Mapping[str, Statistics]) -> str:
    """Sixteen hex digits over configuration, tensors and what is known of robots."""
    found = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    _add(found, tensors)
    for name, part in sorted(statistics.items()):
        found.update(f"{name}{part.digest}".encode())
    return found.hexdigest()[:16]


def hashed_shared(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Sixteen hex digits over what robots share."""
    found = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    own = (".own.", ".per_robot.")
    _add(found, {k: v for k, v in tensors.items() if not k.startswith("robot.") and not any(o in k for o in own)})
    return found.hexdigest()[:16]


def _add(found: hashlib._Hash, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name}{tuple(tensor.shape)}".encode())
        found.update(tensor.numpy().tobytes())
