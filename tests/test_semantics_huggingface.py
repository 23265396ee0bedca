"""Teachers from Hugging Face, end to end on tiny random models of three families; no torchvision, no hub."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from teacher_kit import WORDS, save_tiny

pytest.importorskip("transformers")

from xtok.semantics.huggingface import HuggingFaceTeacher
from xtok.semantics.load import load_teacher
from xtok.semantics.teacher import Frame, look

FAMILIES = ("qwen2.5-vl", "smolvlm", "paligemma")


@pytest.fixture(scope="module", autouse=True)
def offline() -> None:
    import huggingface_hub.constants as constants

    constants.HF_HUB_OFFLINE = True


@pytest.fixture(scope="module", params=FAMILIES)
def teacher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTeacher:
    folder = save_tiny(request.param, tmp_path_factory.mktemp(request.param))
    loaded = load_teacher(str(folder))
    assert isinstance(loaded, HuggingFaceTeacher)
    return loaded


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(count)]


def test_pictures_are_told_apart_and_do_not_depend_on_the_batch(teacher: HuggingFaceTeacher) -> None:
    seen = teacher.see(pictures(3))
    assert seen.shape == (3, teacher.width) and seen.dtype == np.float32 and np.isfinite(seen).all()
    assert np.abs(seen[0] - seen[1]).max() > 1e-4
    np.testing.assert_allclose(teacher.see(pictures(1)), seen[:1], atol=1e-5)


def test_words_are_told_apart_and_do_not_depend_on_the_batch(teacher: HuggingFaceTeacher) -> None:
    read = teacher.read([*WORDS, "Task: lift it."])
    assert read.shape == (3, teacher.width) and np.isfinite(read).all()
    assert np.abs(read[0] - read[1]).max() > 1e-4
    for row, words in enumerate(WORDS):
        np.testing.assert_allclose(teacher.read([words])[0], read[row], atol=1e-5)


def test_the_mean_is_over_the_tokens_of_the_picture_alone(teacher: HuggingFaceTeacher) -> None:
    """Against a sum of our own over the layer's states, found by a hook on the layer that makes them."""
    states = []
    decoder = teacher.model.get_decoder() if hasattr(teacher.model, "get_decoder") else teacher.model.language_model
    layers = next(m for m in decoder.modules() if hasattr(m, "layers")).layers
    hook = layers[len(layers) + teacher.layer].register_forward_hook(
        lambda _, __, output: states.append(output[0] if isinstance(output, tuple) else output)
    )
    try:
        seen = teacher.see(pictures(1))
    finally:
        hook.remove()
    state_LW = states[0].reshape(-1, teacher.width).float()
    count = 4  # tokens of a picture of 56 or 64 pixels
    sums = [state_LW[i : i + count].mean(0).numpy() for i in range(len(state_LW) - count + 1)]
    assert min(np.abs(each - seen[0]).max() for each in sums) < 1e-5


def test_layers_differ_and_those_that_are_not_there_are_refused(teacher: HuggingFaceTeacher) -> None:
    other = load_teacher(teacher.name, layer=-1)
    assert other.digest != teacher.digest
    assert np.abs(other.see(pictures(1)) - teacher.see(pictures(1))).max() > 1e-3
    with pytest.raises(ValueError, match="5 hidden states; layer -6"):
        load_teacher(teacher.name, layer=-6)


def test_frames_of_three_views(teacher: HuggingFaceTeacher) -> None:
    head, left, right = pictures(3)
    frames = [
        Frame({"head": head, "left": left, "right": right}, "lift it", "reach"),
        Frame({"head": head}, "lift it", "grasp"),
    ]
    found = look(teacher, frames, ["head", "left", "right"])
    assert found.views.shape == (2, 3, teacher.width) and found.text.shape == (2, teacher.width)
    np.testing.assert_array_equal(found.view_mask, [[True] * 3, [True, False, False]])
    np.testing.assert_allclose(found.views[0, 0], found.views[1, 0], atol=1e-5)


def test_names_of_nothing(tmp_path: Path) -> None:
    for name in ("no/such-model", str(tmp_path), "nonsense"):
        with pytest.raises(ValueError, match="no image-text teacher"):
            load_teacher(name)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    folder = save_tiny("paligemma", tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no image-text teacher"):
        load_teacher(str(folder))
