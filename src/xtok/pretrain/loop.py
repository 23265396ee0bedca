"""Pretraining of a codec, one step after another, and resumable at each. docs/method.md#losses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from xtok import provenance
from xtok.actions.layout import get_layout
from xtok.actions.types import ChunkBatch
from xtok.codec import Tokenizer
from xtok.codec.base import Codec
from xtok.codec.config import WordsConfig
from xtok.codec.kept_kmeans import keep_kmeans
from xtok.codec.load import AnyTokenizer, load_tokenizer
from xtok.codec.storage import make_codec
from xtok.codec.words import WordTokenizer
from xtok.data.digests import differences
from xtok.engine import PLAIN, Engine, Launch, Settings
from xtok.engine.checkpoint import write_json
from xtok.engine.processes import accelerator_for, first_does
from xtok.messages import say
from xtok.pretrain.batches import CodecBatch
from xtok.pretrain.chunk_task import ChunkTask
from xtok.pretrain.corpus import Corpus
from xtok.pretrain.identity import Launched, RunJson, identity
from xtok.pretrain.initialise import initialise
from xtok.pretrain.measurement import measure_unknown
from xtok.pretrain.precision import round_to_half
from xtok.pretrain.recipe import Recipe
from xtok.pretrain.start import Start
from xtok.pretrain.task import PLACING, CodecTask
from xtok.pretrain.word_heads import WordHeadsTask
from xtok.pretrain.words import words_for_corpus
from xtok.semantics.cotemporal import FrameFeatures


def train(
    recipe: Recipe,
    data_paths: Sequence[Path],
    out: Path,
    resume: bool = False,
    features: FrameFeatures | None = None,
    tokenizer: AnyTokenizer | None = None,
    skip_bad: bool = False,
    launch: Launch = PLAIN,
    start_from: str | Path | None = None,
) -> Path:
    """Train by `recipe` on the train episodes of the data sets; returns `out`, which then opens as a tokenizer.

    features: of a teacher, for a recipe that aligns or predicts. Data sets that it lacks just do not take part in that.
    tokenizer: for a recipe with trainable="heads", the one that stays as it is; `out` then holds a copy beside the
        heads, with the robots that it lacked, measured.
    skip_bad: leave out episodes that cannot be read; run.json lists them.
    start_from: trained weights of the recipe's own configuration (a run's folder, a hub id, shipped ones), where
        networks, codebooks and heads begin. What its robots' ranges are stays; the optimiser begins anew.
    launch: how it is run here. Under torchrun or `accelerate launch`, every process calls this with the same arguments.

    `out` also gets run.json (recipe, data hash, versions), metrics.jsonl, heads.safetensors and checkpoints/.

    Raises:
        ValueError: `out` holds a run and resume is False, or with resume none or one of another recipe or data; a
            tokenizer with a recipe that places its own, or none with one that needs it; `start_from` of another
            configuration; a loss that is no number.
        KeyboardInterrupt: SIGINT or SIGTERM came; a checkpoint was written first.
    """
    recipe = _of_tokenizer(recipe, tokenizer)
    corpus = Corpus.open(
        get_layout(recipe.codec.layout), data_paths, recipe.data.action_sources, recipe.data.sampling_weights, skip_bad
    )
    trainer = (
        resume_run(recipe, corpus, out, features, tokenizer, launch, start_from)
        if resume
        else begin_run(recipe, corpus, out, data_paths, features, tokenizer, launch, start_from)
    )
    trainer.run()
    return trainer.finish()


def begin_run(
    recipe: Recipe,
    corpus: Corpus,
    out: Path,
    data_paths: Sequence[Path] = (),
    features: FrameFeatures | None = None,
    tokenizer: AnyTokenizer | None = None,
    launch: Launch = PLAIN,
    start_from: str | Path | None = None,
) -> Trainer:
    """Place priors and books (or take those of `tokenizer` or `start_from`), and write run.json.

    The first process does, for all. Stopped in between, the next beginning takes over each k-means that was done.

    Raises:
        ValueError: `out` holds a run already, the corpus is too small, or the recipe needs features of its episodes.
    """
    accelerator = accelerator_for(launch, out)
    start = None if start_from is None else Start.open(start_from, recipe)

    def place() -> Codec | WordTokenizer:
        if (out / "run.json").exists():
            raise ValueError(f"{out} holds a run; go on with it (--resume), or choose another folder")
        shutil.rmtree(out / "checkpoints", ignore_errors=True)  # of a beginning that was cut short
        torch.manual_seed(recipe.seed)
        with keep_kmeans(out / PLACING):
            placed = _placed(recipe, corpus, tokenizer, start)
        (Tokenizer(placed) if isinstance(placed, Codec) else placed).save_pretrained(out / "start")
        return placed

    trainer = Trainer(recipe, corpus, first_does(place, accelerator) or _started(out), out, features, launch)
    if start is not None:
        start.into(trainer.codec_task)
    trainer.save()
    about: RunJson = {
        **identity(recipe, corpus, features, tokenizer, None if start is None else start.tokenizer),
        "data": [str(path) for path in data_paths],
        "left_out": [each.to_dict() for each in corpus.left_out],
        "global_batch": recipe.data.batch_size,
        "data_order": trainer.task.data_order,
        **trainer.launched(),
        "git_revision": provenance.git_revision(),
        "versions": provenance.versions(),
        "command": provenance.command(),
    }

    def begun() -> None:
        write_json(out / "run.json", about)  # last: a run without it never began
        shutil.rmtree(out / PLACING, ignore_errors=True)

    first_does(begun, accelerator)
    return trainer


def _started(out: Path) -> Codec | WordTokenizer:
    """What the beginning of a run left in its folder."""
    found = load_tokenizer(out / "start")
    return found if isinstance(found, WordTokenizer) else found.codec


def _placed(
    recipe: Recipe, corpus: Corpus, tokenizer: AnyTokenizer | None, start: Start | None
) -> Codec | WordTokenizer:
    if isinstance(tokenizer, WordTokenizer):
        return words_for_corpus(tokenizer, corpus)
    if tokenizer is not None:
        return measure_unknown(tokenizer, corpus, recipe.seed).codec
    if start is not None:
        return start.codec(corpus, recipe.seed)
    codec = make_codec(recipe.codec)
    books = recipe.codebooks
    initialise(codec, corpus, recipe.seed, books.vectors, books.iterations, own=books.own)
    if books.half:
        round_to_half(codec)
    return codec


def resume_run(
    recipe: Recipe,
    corpus: Corpus,
    out: Path,
    features: FrameFeatures | None = None,
    tokenizer: AnyTokenizer | None = None,
    launch: Launch = PLAIN,
    start_from: str | Path | None = None,
) -> Trainer:
    """The run in `out` as its newest checkpoint left it. The number of processes, `launch` and the device may differ
    from the beginning's: the batches stay, dropout and the last bits of sums do not.

    Raises:
        ValueError: there is none, or it is of another recipe, other data, other features or another tokenizer.
    """
    if not (out / "run.json").exists():
        raise ValueError(f"no run to go on with in {out}; start without --resume")
    recorded = json.loads((out / "run.json").read_text(encoding="utf-8"))
    start = None if start_from is None else Start.open(start_from, recipe)
    now = identity(recipe, corpus, features, tokenizer, None if start is None else start.tokenizer)
    if different := differences({key: recorded.get(key) for key in now}, now):
        raise ValueError(
            f"the run in {out} has another {' and '.join(different)}; give the ones it was begun with. The "
            "number of processes, --workers, --accumulate, --precision and --track may differ"
        )
    trainer = Trainer(recipe, corpus, _started(out), out, features, launch)
    trainer.load()
    here = trainer.launched()
    before = (recorded.get("resumed") or [recorded])[-1]
    changed = [f"{key} {before[key]} (now {it})" for key, it in here.items() if before.get(key, it) != it]
    if changed:
        if trainer.accelerator.is_main_process:
            say(f"the run had {', '.join(changed)}: its batches stay the same, its last bits do not")
        recorded.setdefault("resumed", []).append({"step": trainer.step, **here})
        first_does(lambda: write_json(out / "run.json", recorded), trainer.accelerator)
    return trainer


def _of_tokenizer(recipe: Recipe, tokenizer: AnyTokenizer | None) -> Recipe:
    """A recipe for heads is for whatever codec it is given."""
    if (recipe.trainable == "heads") is (tokenizer is None):
        wants = "needs --tokenizer, the one that stays as it is" if tokenizer is None else "places a tokenizer itself"
        raise ValueError(f"recipe {recipe.name!r} {wants}; --tokenizer goes with a recipe of heads alone (`heads`)")
    if tokenizer is None:
        return recipe
    if isinstance(tokenizer, WordTokenizer):
        return replace(recipe, codec=WordsConfig(tokenizer.layout.name, codebook_size=tokenizer.vocab_size))
    return replace(recipe, codec=tokenizer.codec.config)


class Trainer(Engine[CodecBatch]):
    """The engine with a codec's task, or that of heads of motion words: see `Engine`, `CodecTask`, `WordHeadsTask`."""

    task: ChunkTask

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        codec: Codec | WordTokenizer,
        out: Path,
        features: FrameFeatures | None = None,
        launch: Launch = PLAIN,
    ) -> None:
        device = accelerator_for(launch, out).device
        settings = Settings(
            recipe.steps,
            recipe.seed,
            recipe.log_every,
            recipe.validate_every,
            recipe.checkpoint_every,
            recipe.optimiser.gradient_clip,
        )
        task: ChunkTask = (
            WordHeadsTask(recipe, corpus, codec, out, features, device)
            if isinstance(codec, WordTokenizer)
            else CodecTask(recipe, corpus, codec, out, features, device)
        )
        super().__init__(task, settings, out, launch)

    @property
    def codec_task(self) -> CodecTask:
        """The task, where it is a codec's."""
        assert isinstance(self.task, CodecTask)
        return self.task

    @property
    def codec(self) -> Codec:
        return self.codec_task.codec

    @property
    def corpus(self) -> Corpus:
        return self.task.corpus

    @property
    def watched(self) -> dict[str, dict[int, ChunkBatch]]:
        return self.codec_task.watched

    def l1(self, chunks: ChunkBatch) -> float:
        """See `CodecTask.l1`."""
        return self.codec_task.l1(chunks)

    def launched(self) -> Launched:
        """How it is run here, for run.json."""
        return {
            "world_size": self.accelerator.num_processes,
            "accumulate": self.launch.accumulate,
            "precision": "bf16" if self.accelerator.mixed_precision == "bf16" else "fp32",
            "device": self.accelerator.device.type,
        }
