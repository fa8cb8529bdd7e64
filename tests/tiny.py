"""Tiny random-weight models from configuration, so that tests need no download and take milliseconds."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PROMPT_WORDS = (
    *("dataset", "glucose", "of", "person", "with", "diabetes", "measured", "by", "sensor", "under", "skin", "task"),
    *("forecast", "next", "steps", "given", "previous", "input", "statistics", "min", "max", "median", "last", "trend"),
    *("is", "up", "down", "flat", "strongest", "lags", "are", "none", "mg", "dl", "mmol", ":", ",", ".", "/", "-"),
    *(piece for digit in "0123456789" for piece in (digit, f"##{digit}")),
)
"""What a window of glucose is described with."""
WORDS = ("good", "bad", "fine", "poor", "film", "book", "was", "the", "very", "not", "a", "it", "story", "plot")


def tokenizer(words: Sequence[str] = (), positions: int = 128) -> PreTrainedTokenizerFast:
    """Return a WordPiece tokenizer that knows WORDS, `words` and single letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*SPECIAL, *dict.fromkeys([*WORDS, *letters, *(f"##{letter}" for letter in letters), *words])]
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=positions,
    )


def bert(
    labels: tuple[str, ...] = ("bad", "good"),
    layers: int = 4,
    seed: int = 0,
    dropout: float = 0.1,
    width: int = 16,
    words: Sequence[str] = (),
    positions: int = 128,
) -> BertForSequenceClassification:
    """Return a text classifier of two heads with random weights that are the same for the same seed."""
    config = BertConfig(
        vocab_size=len(tokenizer(words)),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=positions,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForSequenceClassification(config)


def saved_bert(
    folder: Path,
    labels: tuple[str, ...] = ("bad", "good"),
    layers: int = 4,
    seed: int = 0,
    words: Sequence[str] = (),
    positions: int = 128,
) -> Path:
    """Write `bert` and its tokenizer into `folder` as `save_pretrained` does; returns the folder."""
    bert(labels, layers, seed, words=words, positions=positions).save_pretrained(folder)
    tokenizer(words, positions).save_pretrained(folder)
    return folder
