"""Tiny random-weight models from configuration, so that tests need no download and take milliseconds."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("good", "bad", "fine", "poor", "film", "book", "was", "the", "very", "not", "a", "it", "story", "plot")


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a WordPiece tokenizer that knows WORDS and single letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*SPECIAL, *dict.fromkeys([*WORDS, *letters, *(f"##{letter}" for letter in letters)])]
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
        model_max_length=128,
    )


def bert(
    labels: tuple[str, ...] = ("bad", "good"), layers: int = 4, seed: int = 0, dropout: float = 0.1, width: int = 16
) -> BertForSequenceClassification:
    """Return a text classifier of two heads with random weights that are the same for the same seed."""
    config = BertConfig(
        vocab_size=len(tokenizer()),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForSequenceClassification(config)


def saved_bert(folder: Path, labels: tuple[str, ...] = ("bad", "good"), layers: int = 4, seed: int = 0) -> Path:
    """Write `bert` and its tokenizer into `folder` as `save_pretrained` does; returns the folder."""
    bert(labels, layers, seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
