"""What do codes know? Linear probes: multinomial logistic regression from frozen features to a label.

# n samples (slots or chunks), q levels, F dense features, K classes, W one-hot columns

Fitted with torch's LBFGS: the loss is convex, codes are sums of rows of a table (no one-hot matrix is ever made), and a
library for it would be one more thing to install. tests/test_evaluate_probes.py holds it against closed forms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xtok.evaluate.cluster import Mean, clustered_mean
from xtok.evaluate.semantics_result import ProbeJson

RIDGES = (1e-4, 1e-3)  # on the mean loss; the better on a quarter of the train episodes
TRAIN_MAX, TEST_MAX = 6000, 6000  # samples
ITERATIONS = 40
VALIDATION_SHARE = 0.25


@dataclass(frozen=True)
class Probe:
    """accuracy on episodes that the probe was not fitted on, its 95 % interval over episodes; balanced: mean recall of
    the classes. majority: the commonest train class. shuffled: the same probe fitted on permuted labels. by_group: the
    accuracy within each group of test samples, where groups were given."""

    accuracy: Mean
    balanced: float
    majority: float
    shuffled: float
    classes: int
    train: int
    test: int
    ridge: float
    by_group: dict[str, Mean] = field(default_factory=dict)

    def to_dict(self) -> ProbeJson:
        return {
            "accuracy": self.accuracy.to_dict(),
            "balanced": self.balanced,
            "majority": self.majority,
            "shuffled": self.shuffled,
            "classes": self.classes,
            "train": self.train,
            "test": self.test,
            "ridge": self.ridge,
            "by_group": {group: mean.to_dict() for group, mean in self.by_group.items()},
        }


def probe(
    features_n: np.ndarray,
    label_n: np.ndarray,
    episode_n: np.ndarray,
    train_n: np.ndarray,
    seed: int = 0,
    ridges: Sequence[float] = RIDGES,
    group_n: np.ndarray | None = None,
) -> Probe | None:
    """How well a linear map of `features` tells `label`, on samples outside `train_n`.

    Args:
        features_n: integers [n, q] are codes, one-hot by level; floats [n, F] are standardised.
        label_n: strings; samples with "" are left out.
        train_n: True where the probe may be fitted. No episode may lie on both sides.
        group_n: names of groups whose accuracy is wanted apart, such as "unseen arm".

    Returns:
        None where train or test samples, or a second class, are missing.

    Raises:
        ValueError: arrays of different lengths, or an episode on both sides.
    """
    if not len(features_n) == len(label_n) == len(episode_n) == len(train_n):
        raise ValueError(
            f"{len(features_n)} rows, {len(label_n)} labels, {len(episode_n)} episodes, {len(train_n)} train flags: "
            "give as many"
        )
    if both := set(episode_n[train_n]) & set(episode_n[~train_n]):
        raise ValueError(f"episodes {sorted(both)[:3]} are on both sides; split by episode")
    rng = np.random.default_rng(seed)
    known = label_n != ""
    train, test = (_sample(np.flatnonzero(known & side), most, rng) for side, most in _sides(train_n))
    classes, y_train = np.unique(label_n[train], return_inverse=True)
    if len(classes) < 2 or not len(test):
        return None
    y_test = np.searchsorted(classes, label_n[test]).clip(max=len(classes) - 1)
    y_test = np.where(classes[y_test] == label_n[test], y_test, -1)  # a class that train lacks can only be missed

    ridge = _choose_ridge(features_n[train], y_train, episode_n[train], len(classes), ridges, rng)
    inputs = _Inputs(features_n[train])
    x_train, x_test = inputs(features_n[train]), inputs(features_n[test])
    right, wrong = (
        _predict(_fit(x_train, y, len(classes), ridge, inputs.columns), x_test)
        for y in (y_train, rng.permutation(y_train))
    )
    hit = right == y_test
    commonest = np.bincount(y_train).argmax()
    tested = episode_n[test]
    groups = {} if group_n is None else {name: group_n[test] == name for name in np.unique(group_n[test])}
    return Probe(
        accuracy=clustered_mean(hit, tested, seed),
        balanced=float(np.mean([hit[label_n[test] == name].mean() for name in np.unique(label_n[test])])),
        majority=float((y_test == commonest).mean()),
        shuffled=float((wrong == y_test).mean()),
        classes=len(classes),
        train=len(train),
        test=len(test),
        ridge=ridge,
        by_group={str(name): clustered_mean(hit[rows], tested[rows], seed) for name, rows in groups.items()},
    )


def probe_all(
    features: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    episode_n: np.ndarray,
    train_n: np.ndarray,
    seed: int = 0,
    group_n: np.ndarray | None = None,
) -> dict[str, dict[str, Probe]]:
    """Feature name -> label name -> probe, all on the same samples; labels that cannot be probed are left out."""
    out: dict[str, dict[str, Probe]] = {}
    for name, features_n in features.items():
        probed = {
            key: probe(features_n, label_n, episode_n, train_n, seed, group_n=group_n)
            for key, label_n in labels.items()
        }
        out[name] = {key: value for key, value in probed.items() if value is not None}
    return out


def code_features(codes_NMQ: np.ndarray) -> dict[str, np.ndarray]:
    """Slot features of a grid of codes, each [N * M, q]: "q0", "q1-q3" (what is below it), "all"; one level: "q0"."""
    flat = codes_NMQ.reshape(-1, codes_NMQ.shape[-1])
    if flat.shape[1] == 1:
        return {"q0": flat}
    below = "q1" if flat.shape[1] == 2 else f"q1-q{flat.shape[1] - 1}"
    return {"q0": flat[:, :1], below: flat[:, 1:], "all": flat}


def bag_of_tokens(tokens: Sequence[np.ndarray], vocab_size: int) -> np.ndarray:
    """[N, W] float: log(1 + count) of each token that occurs, for sequences without slots."""
    used = np.unique(np.concatenate(tokens)) if tokens else np.zeros(0, dtype=int)
    if len(used) and used[-1] >= vocab_size:
        raise ValueError(f"token {used[-1]} is outside [0, {vocab_size})")
    counts = np.stack([np.bincount(each, minlength=vocab_size)[used] for each in tokens])
    return np.log1p(counts).astype(np.float32)


# -- the fit ------------------------------------------------------------------------------------------------------


class _Inputs:
    """Codes as rows of a table, floats standardised by the train samples. Codes that train lacks count for nothing."""

    def __init__(self, train_n: np.ndarray) -> None:
        self.is_codes = np.issubdtype(train_n.dtype, np.integer)
        if self.is_codes:
            self._used = [np.unique(column) for column in train_n.T]
            self._first = np.cumsum([0, *map(len, self._used)])
            self.columns = int(self._first[-1])
        else:
            self._mean, spread = train_n.mean(axis=0), train_n.std(axis=0)
            self._scale = np.where(spread > 1e-9, spread, np.inf)  # a constant column says nothing
            self.columns = train_n.shape[1]

    def __call__(self, values_n: np.ndarray) -> Tensor:
        if not self.is_codes:
            return torch.from_numpy((values_n - self._mean) / self._scale).float()
        rows = np.full(values_n.shape, self.columns)  # the row that stays zero
        for q, (used, column) in enumerate(zip(self._used, values_n.T, strict=True)):
            place = np.searchsorted(used, column).clip(max=len(used) - 1)
            rows[:, q] = np.where(used[place] == column, self._first[q] + place, self.columns)
        return torch.from_numpy(rows)


def _logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if x.dtype == torch.int64:
        return F.embedding_bag(x, torch.cat([weight, weight.new_zeros(1, weight.shape[1])]), mode="sum") + bias
    return x @ weight + bias


def _fit(x: Tensor, y: np.ndarray, classes: int, ridge: float, columns: int) -> tuple[Tensor, Tensor]:
    """weight [columns, K] and bias [K] that minimise mean cross-entropy + ridge / 2 * |weight|^2."""
    y_n = torch.from_numpy(y)
    weight = torch.zeros(columns, classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(_logits(x, weight, bias), y_n) + 0.5 * ridge * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return weight.detach(), bias.detach()


def _predict(fitted: tuple[Tensor, Tensor], x: Tensor) -> np.ndarray:
    return _logits(x, *fitted).argmax(dim=1).numpy()


def _choose_ridge(
    features_n: np.ndarray,
    y_n: np.ndarray,
    episode_n: np.ndarray,
    classes: int,
    ridges: Sequence[float],
    rng: np.random.Generator,
) -> float:
    """The ridge of least cross-entropy on a quarter of the episodes; the middle one where there are too few."""
    episodes = rng.permutation(np.unique(episode_n))
    kept_back = np.isin(episode_n, episodes[: int(VALIDATION_SHARE * len(episodes))])
    if len(ridges) == 1 or not kept_back.any() or kept_back.all():
        return ridges[len(ridges) // 2]
    inputs = _Inputs(features_n[~kept_back])
    x, x_validation = inputs(features_n[~kept_back]), inputs(features_n[kept_back])
    y_validation = torch.from_numpy(y_n[kept_back])
    losses = []
    for ridge in ridges:
        fitted = _fit(x, y_n[~kept_back], classes, ridge, inputs.columns)
        losses.append(float(F.cross_entropy(_logits(x_validation, *fitted), y_validation)))
    return ridges[int(np.argmin(losses))]


def _sides(train_n: np.ndarray) -> tuple[tuple[np.ndarray, int], tuple[np.ndarray, int]]:
    return (train_n, TRAIN_MAX), (~train_n, TEST_MAX)


def _sample(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))
