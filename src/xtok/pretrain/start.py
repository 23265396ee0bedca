"""Trained weights that more training starts from: networks, codebooks and heads. Of the optimiser nothing is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from xtok.codec import Tokenizer, storage
from xtok.codec.base import Codec
from xtok.messages import say
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.measurement import measure_unknown
from xtok.pretrain.recipe import Recipe
from xtok.pretrain.task import CodecTask
from xtok.semantics.align import HEADS


@dataclass(frozen=True)
class Start:
    """heads: tensors of heads.safetensors beside the weights, none where there is no such file."""

    tokenizer: Tokenizer
    heads: dict[str, torch.Tensor]

    @classmethod
    def open(cls, path_or_id: str | Path, recipe: Recipe) -> Start:
        """A run's folder, a hub id or shipped weights.

        Raises:
            FileNotFoundError: no such tokenizer. ValueError: weights of another configuration than the recipe's, or a
                recipe that does not train its networks.
        """
        if recipe.trainable != "all" or not recipe.steps:
            raise ValueError(
                f"recipe {recipe.name!r} trains no networks of a codec, so it cannot start from weights; "
                "--start-from is for a perceiver's recipe, such as small_perceiver_arms26"
            )
        folder = storage.resolve(path_or_id, extra=[HEADS])
        tokenizer = Tokenizer.from_pretrained(folder)
        given, wanted = tokenizer.codec.config.to_dict(), recipe.codec.to_dict()
        if other := [
            f"{key} {given.get(key)!r} (the recipe: {wanted.get(key)!r})"
            for key in sorted(given.keys() | wanted.keys())
            if given.get(key) != wanted.get(key)
        ]:
            raise ValueError(
                f"{path_or_id} is of another configuration than recipe {recipe.name!r}: {', '.join(other)}; start from "
                "weights that the same codec was trained to"
            )
        return cls(tokenizer, load_file(folder / HEADS) if (folder / HEADS).is_file() else {})

    def codec(self, corpus: Corpus, seed: int) -> Codec:
        """The codec, with the robots of the corpus that it lacks."""
        codec = measure_unknown(self.tokenizer, corpus, seed).codec
        for quantizer in codec.quantizers:
            quantizer.restart_from_books()
        return codec

    def into(self, task: CodecTask) -> None:
        """Heads of the task take the values of those that they share name and shape with; what is left is told."""
        own = task.heads.state_dict()
        taken = {name: value for name, value in self.heads.items() if name in own and own[name].shape == value.shape}
        task.heads.load_state_dict({**own, **taken})
        task.restart_averages()
        anew, unused = sorted(own.keys() - taken.keys()), sorted(self.heads.keys() - taken.keys())
        for what, names in (("begin anew", anew), ("have no place in this recipe", unused)):
            if names:
                heads = sorted({name.split(".")[0] for name in names})
                say(f"of the heads {', '.join(heads)}, {len(names)} tensors {what}")
