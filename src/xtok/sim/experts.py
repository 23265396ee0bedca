"""The scripted expert: a task's moves, one commanded goal a control step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np

from xtok.sim.geometry import frame_from_pose, rotvec_from_rotation
from xtok.sim.moves import OPEN, SETTLE_STEPS, TOLERANCE_M, TOLERANCE_RAD, Move, Style, Together
from xtok.sim.tasks.base import Goal, Task
from xtok.sim.world import World

GRIPPER_STEP = 0.25  # the commanded opening moves this far a step: a short ramp instead of a jump


class Expert:
    """Sees the whole state of the world; asks nothing of pictures or words.

    Ask `goal()` once for every step of the environment; asking again before the step gives the same answer.
    """

    def __init__(self, world: World, task: Task, goal: Goal, style: Style) -> None:
        self._world = world
        self._pilots = {side: _Pilot(world.of(side)) for side in world.hands}
        moves = task.moves(world, goal, style)
        if world.side is None:
            self._stages = cast("Iterator[Together]", moves)
        else:  # a lone arm's moves name their sub-tasks themselves
            self._stages = iter((Together("", {world.side: cast("Iterator[Move]", moves)}),))
        self._text = ""
        self._asked_at = -1
        self._answer = np.zeros(0)
        self.done = False
        self._next_stage()

    @property
    def subtask(self) -> str:
        """What the goal that was asked for last belongs to."""
        return self._text or next(iter(self._pilots.values())).text

    def goal(self) -> np.ndarray:
        """Absolute goal [26] of the next step: poses in the base frames, grippers 0 closed .. 1 open."""
        if self._asked_at != self._world.steps:
            self._asked_at = self._world.steps
            self._advance()
            frames = [pilot.frame_D() for pilot in self._pilots.values()]
            self._answer = np.sum(frames, axis=0) if len(frames) > 1 else frames[0]
        return self._answer.copy()

    def _advance(self) -> None:
        while not self.done:
            for pilot in self._pilots.values():
                pilot.settle()
            if any(pilot.busy for pilot in self._pilots.values()):
                break
            self._next_stage()
        for pilot in self._pilots.values():
            pilot.step()

    def _next_stage(self) -> None:
        stage = next(self._stages, None)
        if stage is None:
            self.done = True
            return
        self._text = stage.text
        for side, moves in stage.moves.items():
            self._pilots[side].load(moves)


class _Pilot:
    """One hand on its moves. text: sub-task of the last one."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._moves: Iterator[Move] = iter(())
        self._goal = world.hand()
        self._gripper = OPEN
        self._move: Move | None = None
        self._start = self._goal
        self._step = self._steps = 0
        self._waited = self._held = 0
        self.text = ""

    @property
    def busy(self) -> bool:
        return self._move is not None

    def load(self, moves: Iterable[Move]) -> None:
        self._moves = iter(moves)
        self._next_move()

    def settle(self) -> None:
        """Go on to the first move that has not ended."""
        while self._move is not None and self._ended(self._move):
            self._next_move()

    def step(self) -> None:
        move = self._move
        if move is None:
            return
        self._gripper += float(np.clip(move.gripper - self._gripper, -GRIPPER_STEP, GRIPPER_STEP))
        if self._step < self._steps:
            self._step += 1
            self._goal = move.at(self._start, self._step / self._steps)
            return
        if self._arrived(move):
            self._held += 1
        else:
            self._waited += 1

    def frame_D(self) -> np.ndarray:
        """The goal as a frame [26], other channels 0."""
        in_base = self._world.base.inverse().compose(self._goal)
        return frame_from_pose(in_base, self._gripper, self._world.side or "right")

    def _ended(self, move: Move) -> bool:
        if move.until is not None and move.until(self._world):
            return True
        if self._step < self._steps:
            return False
        return (self._arrived(move) or self._waited >= SETTLE_STEPS) and self._held >= move.hold

    def _arrived(self, move: Move) -> bool:
        if self._waited >= SETTLE_STEPS:
            return True
        hand = self._world.hand()
        away = float(np.linalg.norm(move.to.position_m - hand.position_m))
        turn = float(np.linalg.norm(rotvec_from_rotation(move.to.rotation @ hand.rotation.T)))
        limit = 0.4 * TOLERANCE_M if move.precise else TOLERANCE_M
        return away < limit and turn < TOLERANCE_RAD

    def _next_move(self) -> None:
        self._move = next(self._moves, None)
        if self._move is None:
            return
        self._start = self._goal
        self._step = self._waited = self._held = 0
        self._steps = self._move.steps(self._start)
        self.text = self._move.text
