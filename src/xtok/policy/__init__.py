"""The contract of whatever drives a robot: it is shown an observation and answers with a chunk of absolute goals.

A learned policy, a server's client and a scripted expert meet it alike, so each can act in the simulation.
"""

from __future__ import annotations

from xtok.policy.protocol import Observation, Policy

__all__ = ["Observation", "Policy"]
