"""Texts are cut before they are tokenised, and the model reads the same tokens as of the whole text."""

import random
import runpy
import time
from functools import cache

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from kd.tasks.classification.task import Classification
from tests import tiny

SERVED = runpy.run_path(str(Classification("text", "", "label").served))
WORDS = ("good", "bad", "tokeniser", "don't", "it's", "12,345", "3.14", "naïve", "Ωmega", "e\u0301te\u0301", "x" * 30)
PARTS = (
    *(WORDS * 4), " ", "  ", "   \n", "\n\n", "\t", "\r\n", "...", "!?", "[SEP]", "<|end|>", "<mask>", "中文字", "日本",
    "🙂", "👩\u200d🔬", "\u0301\u0301", "\u00a0", "123456789", "7" * 40, "a" * 300, " " * 90, "\x00", "。",
    "ﬁ", "ß", "'", "##ed",
)  # fmt: skip
DIGITS_FROM_THE_END = r"\d{1,3}(?=(?:\d{3})*\b)"
MANY = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def text(draw, count):
    return "".join(draw.choice(PARTS) + (" " if draw.random() < 0.5 else "") for _ in range(count))


@cache
def corpus():
    draw = random.Random(0)
    return [text(draw, 60) for _ in range(30)]


def bert():
    return Tokenizer.from_str(tiny.tokenizer().backend_tokenizer.to_str())


def byte_bpe(pattern=None):
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    if pattern:
        splits = [pre_tokenizers.Split(Regex(one), "isolated") for one in pattern]
        made.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(False, use_regex=False)])
    else:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, special_tokens=["<s>", "</s>", "<|end|>"])
    made.train_from_iterator(corpus(), trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return made


def unigram():
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator(
        corpus(), trainers.UnigramTrainer(vocab_size=400, special_tokens=["<unk>"], unk_token="<unk>")
    )
    return made


def unsplit_bpe():
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>"]))
    return made


KINDS = {
    "bert": bert,
    "gpt2": byte_bpe,
    "llama3": lambda: byte_bpe([MANY]),
    "digits counted from the end": lambda: byte_bpe([DIGITS_FROM_THE_END, MANY]),
    "unigram": unigram,
    "one word": unsplit_bpe,
}


@cache
def reader(kind, side, limit):
    made = KINDS[kind]()
    made.enable_truncation(limit, direction=side)
    made.enable_padding(direction=side)
    return made


def read(tokens, row):
    found = tokens.encode(*row)
    return found.ids, found.attention_mask, found.type_ids


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("texts", [1, 2])
def test_a_cut_text_gives_the_tokens_of_the_whole_one(kind, side, texts):
    draw, cut = random.Random(f"{kind} {side} {texts}"), 0
    for limit in (15, 16):
        tokens = reader(kind, side, limit)
        for _ in range(20 // texts):
            row = [text(draw, draw.choice((2, 60, 120))) for _ in range(texts)]
            short = SERVED["_shortened"](tokens, row)
            assert read(tokens, short) == read(tokens, row)
            cut += sum(map(len, short)) < sum(map(len, row))
    assert cut >= (0 if kind == "one word" else 3)


@pytest.mark.parametrize("side", ["left", "right"])
def test_of_two_long_texts_the_longer_gets_the_odd_token_as_before_the_cut(side):
    tokens = reader("bert", side, 16)  # 13 tokens for both; what is cut off both is combined, so the texts are short
    for row in (["good " * 400, "bad " * 401], ["good " * 401, "bad " * 400], ["a " * 300, "bad " * 400]):
        assert read(tokens, SERVED["_shortened"](tokens, row)) == read(tokens, row)


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_comes_after_a_million_blanks_is_still_read(side):
    tokens = reader("bert", side, 16)
    row = [" " * 100_000 + "good " * 40 + "bad " * 40 + " " * 100_000]
    (short,) = SERVED["_shortened"](tokens, row)
    assert read(tokens, [short]) == read(tokens, row)


def test_a_long_text_takes_no_longer_than_what_is_read_of_it():
    tokens = reader("bert", "right", 16)
    row = ["it was a good plot " * 500_000]
    start = time.perf_counter()
    (short,) = SERVED["_shortened"](tokens, row)
    assert time.perf_counter() - start < 0.5
    assert len(short) < 1000


def test_two_long_texts_are_not_combined_into_millions_of_pairs():
    tokens = reader("bert", "right", 16)
    row = ["it was a good plot " * 3000, "it was a bad film " * 3001]
    start = time.perf_counter()
    assert len(tokens.encode(*SERVED["_shortened"](tokens, row)).overflowing) < 10_000
    assert time.perf_counter() - start < 2
