"""Other people's tokenizers behind the same protocol as the codec, so that every claim compares like with like."""
