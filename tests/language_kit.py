"""A real text tokenizer, trained on three sentences."""

from __future__ import annotations

import pytest


def text_tokenizer() -> object:
    tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers: pip install 'xtok[fast]'")
    text = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    text.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    text.train_from_iterator(["pick up the red block", "put the block on the plate", "open the drawer"], trainer)
    return text
