"""The gymnasium environment of one cell (task, arm or pair): poses in each arm's base frame in, pictures and state out.

H frames of a chunk, D = 26 channels of arms26 (a lone arm on the right side), S side of the images in pixels.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from xtok.actions import ARMS26, from_delta, get_embodiment
from xtok.sim.arms import LEFT, RIGHT, get_arm
from xtok.sim.ask import Aims
from xtok.sim.experts import Expert
from xtok.sim.facts import ObjectFact, PairFact
from xtok.sim.geometry import frame_from_pose, pose_from_frame
from xtok.sim.language import instruction
from xtok.sim.moves import Style
from xtok.sim.props import Placement
from xtok.sim.render import PAIR_VIEWS, VIEWS, Views
from xtok.sim.tasks import get_task
from xtok.sim.tasks.base import Goal, Scene, Stage
from xtok.sim.variation import LEVELS, SPLITS, Level, Split, clutter, dress, scene_props, streams, surfaces
from xtok.sim.world import CONTROL_HZ, Lag, World

TEXT = spaces.Text(min_length=0, max_length=200, charset=string.ascii_letters + string.digits + " ,.:;'-")


MIDDLE_M = 0.06  # so far from the middle of the table a thing belongs to no arm
# Task -> of its goals' targets (numbers) and props (names): one of these is touched first, and put on or into that.
ROLES: dict[str, tuple[tuple[int | str, ...], tuple[int | str, ...]]] = {
    "Lift": ((0,), ()),
    "Stack": ((0,), (1,)),
    "PickPlace": ((0,), ("tray",)),
    "Press": ((0,), ()),
    "Turn": ((0,), ()),
    "Insert": (("peg",), (0,)),
    "Sort": ((0, 1), (2,)),
    "Tidy": ((0,), ("tray",)),
    "Tower": ((1,), (0,)),
    "PressOrder": ((0,), ()),
    "Serve": ((0,), (1,)),
    "TwoArmLift": ((0,), ()),
    "Handover": ((0,), ()),
    "TwoArmInsert": ((0,), ("paddle",)),
    "Transport": ((0,), (1,)),
}
PLAIN_M = 0.03  # by so much one hand must be nearer to a thing than the other, all its parts considered


class SimEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """One cell of the suite.

    An action is a chunk of `horizon` frames of arms26: pose of each grip site in its robot's base frame (metres, 6D
    rotation), gripper 0 closed .. 1 open; the channels that a lone arm lacks are ignored. With action="delta" the chunk
    is relative to the state before it, as xtok.actions.to_delta makes it. A goal that the arm cannot reach in its step
    is pursued in the next ones; `info["lag"]` says how far away it was left.

    Raises:
        ValueError: an unknown task, arm, level or kind of action, or sizes below 1.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": int(CONTROL_HZ)}  # noqa: RUF012 (gymnasium's own name)
    control_hz = CONTROL_HZ

    def __init__(
        self,
        task: str,
        arm: str,
        level: Level = "easy",
        views: bool = True,
        image_size: int = 96,
        action: Literal["absolute", "delta"] = "absolute",
        horizon: int = 1,
        render_mode: str | None = "rgb_array",
    ) -> None:
        if level not in LEVELS:
            raise ValueError(f"unknown level {level!r}; expected one of {list(LEVELS)}")
        if action not in ("absolute", "delta"):
            raise ValueError(f"unknown kind of action {action!r}; expected 'absolute' or 'delta'")
        if horizon < 1 or image_size < 8:
            raise ValueError(f"horizon {horizon} and image_size {image_size}; expected at least 1 frame and 8 pixels")
        self._task = get_task(task)
        spec = get_arm(arm)
        if self._task.arms != len(spec.arms):
            raise ValueError(
                f"task {task!r} is for {self._task.arms} arm(s), {arm!r} has {len(spec.arms)}; `xtok sim list` shows "
                "what goes together"
            )
        self.task, self.arm, self.level = task, arm, level
        self._all_views = VIEWS if len(spec.arms) == 1 else (*PAIR_VIEWS, "front")
        self.views: tuple[str, ...] = self._all_views[:3] if views else ()
        self.embodiment = spec.embodiment
        self.mask_D = get_embodiment(spec.embodiment).mask(ARMS26)
        self.max_steps = self._task.max_steps
        self.horizon, self.image_size, self.render_mode = horizon, image_size, render_mode
        self._relative = action == "delta"
        self.world = World(spec, scene_props(level, self._task.props()), surfaces(level))
        self._views: Views | None = None
        self._scene: Scene | None = None
        self._goal: Goal | None = None
        self._placements: Mapping[str, Placement] = {}
        self._style = Style()
        self._lag = Lag(0.0, 0.0)
        self._stages: tuple[Stage, ...] = ()
        self._stage = self._steps = 0
        self._failed: str | None = None
        self.instruction = ""
        self.action_space = spaces.Box(-np.inf, np.inf, (horizon, ARMS26.width), np.float32)
        image = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        state = spaces.Box(-np.inf, np.inf, (ARMS26.width,), np.float32)
        self.observation_space = spaces.Dict(
            {**dict.fromkeys(self.views, image), "state": state, "instruction": TEXT, "subtask": TEXT}
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode: the same bit for bit from (task, arm, level, split, seed).

        options: {"split": "train" | "eval"}, which chooses phrasings and, on Hard, looks. Without a seed one is drawn.

        Raises:
            ValueError: an option or split that does not exist.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        split: Split = options.pop("split", "train")
        if split not in SPLITS or options:
            raise ValueError(f"unknown options {options} or split {split!r}; expected {{'split': one of {SPLITS}}}")
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        random = streams(self.task, self.arm, self.level, split, seed)
        scene = self._scene = self._task.scene(random.layout)
        goal = self._goal = scene.goals[int(random.goal.integers(len(scene.goals)))]
        self.instruction = instruction(self.task, goal.words, split, random.words)
        self.world.restore()
        dress(self.world, self.level, split, random.look)
        for name, colour in scene.colours.items():
            self.world.paint(name, colour)
        extra = clutter(self.level, self.world.props, scene.placements, random.look)
        self._placements = {**scene.placements, **extra}
        self.world.reset(self._placements, random.robot)
        speed = min(hand.arm.speed for hand in self.world.hands.values())
        self._style = Style.draw(random.style, speed)
        self._stages = self._task.stages(goal)
        self._stage = self._steps = 0
        self._failed = None
        state_D = self.state_D()
        return self._observation(), self._info(state_D[None], state_D[None], seed)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Execute a chunk [H, 26]; it ends early when the episode does.

        Raises:
            ValueError: a wrong shape, values that are not finite, or a 6D rotation that is none.
        """
        if self._goal is None:
            raise ValueError("no episode is running; call reset(seed=...) first")
        commanded_HD = self._absolute(action)
        achieved = []
        for frame_D in commanded_HD:
            self._lag = self.world.advance({side: pose_from_frame(frame_D, side) for side in self.world.hands})
            achieved.append(self.state_D())
            self._steps += 1
            self._judge()
            if self._over or self._steps >= self.max_steps:
                break
        info = self._info(commanded_HD[: len(achieved)], np.stack(achieved), None)
        truncated = self._steps >= self.max_steps and not self._over
        return self._observation(), float(info["success"]), self._over, truncated, info

    def expert(self, goal: Goal | None = None) -> Expert:
        """The scripted expert of this episode. Its manner comes from the seed; `goal`: another of the scene's goals."""
        if self._goal is None:
            raise ValueError("no episode is running; call reset(seed=...) first")
        return Expert(self.world, self._task, goal or self._goal, self._style)

    @property
    def goal(self) -> Goal | None:
        """What the instruction asks."""
        return self._goal

    @property
    def goals(self) -> tuple[Goal, ...]:
        """All that could be asked of this scene."""
        return () if self._scene is None else self._scene.goals

    @property
    def subtask(self) -> str:
        """Line of the first stage that is not done."""
        return self._stages[min(self._stage, len(self._stages) - 1)].text if self._stages else ""

    @property
    def subtasks(self) -> tuple[str, ...]:
        """Lines of all stages in order."""
        return tuple(stage.text for stage in self._stages)

    def state_D(self) -> np.ndarray:
        """Proprioception now, float64 [26]: achieved pose in the base frame, measured opening of the gripper."""
        frames = [frame_from_pose(hand.in_base(), hand.opening(), side) for side, hand in self.world.hands.items()]
        return np.sum(frames, axis=0) if len(frames) > 1 else frames[0]

    def render_views(self) -> dict[str, np.ndarray]:
        """uint8 [S, S, 3] for scene, front and each wrist, whether or not observations hold them."""
        return self._renderer().render(self._all_views)

    def render(self) -> np.ndarray:
        """The scene view, uint8 [S, S, 3]."""
        return self.render_views()["scene"]

    def masks(self, view: str) -> dict[str, np.ndarray]:
        """Prop -> bool [S, S], where it is seen in a view.

        Raises:
            ValueError: no such view.
        """
        seen, _ = self.seen(view)
        return seen

    def seen(self, view: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Prop -> bool [S, S] as `masks`, and the same of hands, by what words call them: "gripper", with two arms
        "left gripper" and "right gripper".

        Raises:
            ValueError: no such view.
        """
        if view not in self._all_views:
            raise ValueError(f"unknown view {view!r}; expected one of {list(self._all_views)}")
        ids = self._renderer().segment(view)
        hands = self.world.hands
        grippers = {"gripper" if len(hands) == 1 else f"{side} gripper": hand.seen for side, hand in hands.items()}
        props = {name: self.world.visible_geoms(name) for name in self._present()}
        found = [{name: np.isin(ids, list(geoms)) for name, geoms in each.items()} for each in (props, grippers)]
        return found[0], found[1]

    def aims(self) -> Aims | None:
        """What the instruction is about, or None of a task in which nothing comes first."""
        goal = self._goal
        assert goal is not None
        if self.task not in ROLES:
            return None
        roles = [tuple(goal.targets[i] if isinstance(i, int) else i for i in part) for part in ROLES[self.task]]
        return Aims(self.instruction, roles[0], roles[1])

    def facts(self) -> list[ObjectFact]:
        """What is true of every prop in the scene now."""
        inverse = self.world.of(RIGHT).base.inverse()
        colours = {} if self._scene is None else self._scene.colours
        found: list[ObjectFact] = []
        for name in self._present():
            pose, prop = self.world.pose(name), self.world.props[name]
            pressed = prop.joint is not None and prop.joint.kind == "slide"  # by both fingers, but not held
            held = self.world.held(name) and not pressed
            fact = (name, prop.kind, colours.get(name), inverse.compose(pose).position_m, held)
            if self.world.side is None:
                y_m = float(pose.position_m[1])
                nearer = None if abs(y_m) < MIDDLE_M else LEFT if y_m > 0 else RIGHT
                found.append(PairFact(*fact, self.world.holders(name), nearer, self._nearer_hand(name)))
            else:
                found.append(ObjectFact(*fact))
        return found

    def _nearer_hand(self, name: str) -> str | None:
        """The hand that is nearer to every part of a prop that nothing holds, by some centimetres; else None."""
        away_m = {
            side: float(np.linalg.norm(hand.pose().position_m - self.world.position(name)))
            for side, hand in self.world.hands.items()
        }
        plain = abs(away_m[LEFT] - away_m[RIGHT]) > 2 * self.world.props[name].radius_m + PLAIN_M
        return min(away_m, key=away_m.__getitem__) if plain and not self.world.held(name) else None

    def close(self) -> None:
        if self._views is not None:
            self._views.close()
            self._views = None
        self.world.close()

    def _present(self) -> list[str]:
        return [name for name in self.world.props if name in self._placements]

    @property
    def _over(self) -> bool:
        return self._failed is not None or self._stage == len(self._stages)

    def _judge(self) -> None:
        """Count finished stages, in order and for good; look for failure."""
        goal = self._goal
        assert goal is not None
        self._failed = self._failed or self._task.failed(self.world, goal)
        while self._failed is None and self._stage < len(self._stages) and self._stages[self._stage].done(self.world):
            self._stage += 1

    def _absolute(self, action: np.ndarray) -> np.ndarray:
        action = np.asarray(action, dtype=np.float64)
        expected = (self.horizon, ARMS26.width)
        if action.shape != expected:
            raise ValueError(f"action has shape {action.shape}; expected {expected} (frames of arms26)")
        if not np.isfinite(action[:, self.mask_D]).all():
            raise ValueError("action holds values that are not finite; expected metres, a 6D rotation and an opening")
        chunk_HD = np.where(self.mask_D, action, 0.0)
        if not self._relative:
            return chunk_HD
        anchor_BD, mask_BD = torch.from_numpy(self.state_D())[None], torch.from_numpy(self.mask_D)[None]
        return from_delta(ARMS26, torch.from_numpy(chunk_HD)[None], anchor_BD, mask_BD)[0].numpy()

    def _observation(self) -> dict[str, Any]:
        pictures = self._renderer().render(self.views) if self.views else {}
        state_D = self.state_D().astype(np.float32)
        return {**pictures, "state": state_D, "instruction": self.instruction, "subtask": self.subtask}

    def _info(self, commanded_HD: np.ndarray, achieved_HD: np.ndarray, seed: int | None) -> dict[str, Any]:
        info: dict[str, Any] = {
            "success": self._failed is None and self._stage == len(self._stages),
            "progress": self._stage / len(self._stages),
            "stage": self._stage,
            "failure": self._failed or "",
            "commanded": commanded_HD,
            "achieved": achieved_HD,
        }
        if seed is None:
            info["lag"] = {"position_m": self._lag.position_m, "rotation_rad": self._lag.rotation_rad}
        else:
            info["seed"] = seed
        return info

    def _renderer(self) -> Views:
        if self._views is None:
            self._views = Views(self.world.model, self.world.data, self.image_size)
        return self._views
