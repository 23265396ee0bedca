"""What teaches the codec in pretraining and then leaves: today masked action modelling (METHOD 4)."""

from __future__ import annotations
