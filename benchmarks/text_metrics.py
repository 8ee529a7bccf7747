"""Metrics once per distinct pair, against row by row, in one run.

    python benchmarks/text_metrics.py                 # lexical and WordNet metrics
    python benchmarks/text_metrics.py --neural        # BERTScore and BARTScore, sample's scorers
    python benchmarks/text_metrics.py --neural --size real --pairs 300 --part 40   # minutes

9,109 rows with 1,820 distinct pairs, as many as the study's, over 1,800 answers. Row by row is
every metric by its library for every row, without anything remembered between rows; it is measured
on a part of the rows and scaled up. Start-up (imports, opening WordNet) is outside both. `--pairs`
keeps fewer distinct pairs, evenly picked, with all their rows. `--size real`: random weights in the
sizes of BART-large and of 17 layers of RoBERTa-large (as a BERT), with word pieces of their kind.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from abo_vqa.core.config import ScorerConfig
from abo_vqa.data.normalise import normalise, normalised_words
from abo_vqa.evaluation import lexical, wordnet_metrics
from abo_vqa.evaluation.bartscore import BartScore
from abo_vqa.evaluation.bertscore import BertScore
from abo_vqa.evaluation.pair_scores import TEXT_METRICS, score_pairs
from abo_vqa.evaluation.wordnet import ensure_wordnet
from abo_vqa.evaluation.wordnet_reader import WordNetReader

ROWS, PAIRS, ANSWERS = 9_109, 1_820, 1_800
FOLDER = Path("models/sample")
Pair = tuple[str, str]


def made_up(seed: int = 0) -> list[Pair]:
    """Common English nouns and adjectives; frequent pairs are very frequent."""
    names = sorted(WordNetReader(ensure_wordnet()).all_lemma_names("n"))
    rng = np.random.default_rng(seed)
    common = ["red", "blue", "two", "four", "yes", "no", "white", "cream"]
    drawn = [n for n in rng.permutation(names) if n.isalpha() and n not in common]
    vocabulary = [*common, *drawn[: ANSWERS - len(common)]]
    distinct = [(w, w) for w in vocabulary[: PAIRS // 2]]  # the common words among the right ones
    distinct += zip(vocabulary[PAIRS // 2 :], rng.permutation(vocabulary), strict=False)
    distinct += [(a, b) for a in common[::2] for b in common[1::2]]
    distinct = list(dict.fromkeys((str(a), str(b)) for a, b in distinct))
    while len(distinct) < PAIRS:
        pair = tuple(str(word) for word in rng.choice(vocabulary, 2))
        distinct += [pair] if pair not in distinct else []
    distinct = distinct[:PAIRS]
    weights = 1 / np.arange(1, PAIRS + 1)
    rest = rng.choice(PAIRS, ROWS - PAIRS, p=weights / weights.sum())
    rows = [distinct[i] for i in rng.permutation([*range(PAIRS), *rest])]
    return [(str(a), str(b)) for a, b in rows]


def plain_functions() -> dict[str, Callable[[str, str], float]]:
    """The same definitions by the stock libraries, each row from scratch."""
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.tokenize import word_tokenize
    from nltk.translate.meteor_score import meteor_score
    from rouge_score.rouge_scorer import RougeScorer

    class StockReader(WordNetCorpusReader):
        """NLTK's, without the map of versions: it needs index.sense, which Debian leaves out."""

        def map_wn(self, *_versions: str) -> dict[str, str]:
            return {}

    wordnet = StockReader(ensure_wordnet(), None)

    def meteor(candidate: str, reference: str) -> float:
        a, b = (word_tokenize(normalise(s), preserve_line=True) for s in (candidate, reference))
        return float(meteor_score([b], a, wordnet=wordnet)) if a and b else 0.0

    def find(word: str) -> list:
        pos = wordnet_metrics.part_of_speech(word)
        return wordnet.synsets(word, pos) or wordnet.synsets(word)

    def wup(candidate: str, reference: str) -> float:
        best = []
        for word in normalise(candidate).split():
            scores = [a.wup_similarity(b) for other in normalise(reference).split()
                      for a in find(word) for b in find(other)]  # fmt: skip
            known = [s for s in scores if s is not None]
            best += [max(known)] if known else []
        return sum(best) / len(best) if best else 0.0

    def rouge(name: str) -> Callable[[str, str], float]:
        return lambda candidate, reference: (
            RougeScorer([name], use_stemmer=True).score(reference, candidate)[name].fmeasure
        )

    return {**TEXT_METRICS, "meteor": meteor, "wup": wup, "rouge1": rouge("rouge1"),
            "rougeL": rouge("rougeL")}  # fmt: skip


def forget() -> None:
    for cached in (normalise, normalised_words, lexical.rouge):
        cached.cache_clear()


def compare_lexical(pairs: list[Pair], part: int) -> None:
    plain = plain_functions()
    wordnet_metrics.wordnet_lookup()
    start = time.process_time()
    scores = score_pairs(pairs, list(TEXT_METRICS))
    ours = time.process_time() - start
    total = 0.0
    for name, function in plain.items():
        values, start = [], time.process_time()
        for pair in pairs[:part]:
            forget()
            values.append(function(*pair))
        spent = (time.process_time() - start) * len(pairs) / part
        expected = [scores.values[name][scores.index[p]] for p in pairs[:part]]
        assert np.allclose(values, expected, atol=1e-12), name
        total += spent
        print(f"  {name:16} row by row {spent:7.2f} s")
    print(f"all lexical and WordNet metrics of {len(pairs)} rows: {ours:.2f} s, row by row "
          f"{total:.1f} s (from {part} rows): {total / ours:.1f}×, equal values")  # fmt: skip


def real_size(folder: Path) -> None:
    """Checkpoints `bart` and `encoder` of the real sizes, with random weights."""
    import torch
    from transformers import BartConfig, BartForConditionalGeneration, BertConfig, BertModel

    torch.manual_seed(0)
    size = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
    tokens = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    models = {
        "bart": BartForConditionalGeneration(BartConfig(vocab_size=50_264, **tokens)),
        "encoder": BertModel(BertConfig(vocab_size=50_265, num_hidden_layers=17, **size)),
    }
    tokenizer = word_pieces()
    for name, model in models.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def word_pieces() -> Any:
    """Byte pairs of WordNet's nouns: common words are one token, as in the real vocabularies."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=40_000, special_tokens=special, show_progress=False)
    inner.train_from_iterator(sorted(WordNetReader(ensure_wordnet()).all_lemma_names("n")), trainer)
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = dict(zip(("cls_token", "pad_token", "sep_token", "unk_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=512, **names)


def compare_neural(pairs: list[Pair], part: int, folder: Path, layers: int) -> None:
    bart = BartScore(ScorerConfig(path=str(folder / "bart")))
    start = time.perf_counter()
    scores = bart.score(pairs)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    alone = [-one_loss(bart, *pair) for pair in pairs[:part]]
    each = (time.perf_counter() - start) / part
    off = max(abs(scores[p] - a) for p, a in zip(pairs, alone, strict=False))
    print(f"BARTScore {ours:.2f} s, one pair at a time {each * len(pairs):.1f} s: "
          f"{each * len(pairs) / ours:.1f}×, difference {off:.1e}")  # fmt: skip
    from bert_score import BERTScorer

    del bart
    encoder = str(folder / "encoder")
    ours_scorer = BertScore(ScorerConfig(path=encoder, layer=layers))
    library = BERTScorer(model_type=encoder, num_layers=layers, device="cpu")
    start = time.perf_counter()
    found_bert = ours_scorer.score(pairs)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    f1 = library.score([normalise(a) for a, _ in pairs], [normalise(b) for _, b in pairs])[
        2
    ].tolist()
    theirs = time.perf_counter() - start
    padded = [abs(found_bert[p][2] - f) > 1e-5 for p, f in zip(pairs, f1, strict=True)]
    # A pair alone has no padding, which the library's one call counts as similarity 0.
    rows = [library.score([normalise(a)], [normalise(b)])[2].item() for a, b in pairs[:part]]
    off = max(abs(found_bert[p][2] - f) for p, f in zip(pairs, rows, strict=False))
    print(f"BERTScore {ours:.2f} s, the library's one call {theirs:.2f} s: {theirs / ours:.1f}×; "
          f"difference from the library row by row {off:.1e} ({part} rows); its one call differs "
          f"from that by its padding in {sum(padded)} rows")  # fmt: skip


def one_loss(bart: BartScore, candidate: str, reference: str) -> float:
    import torch

    with torch.inference_mode():
        source = bart.tokenizer(candidate, return_tensors="pt")["input_ids"]
        labels = bart.tokenizer(reference, return_tensors="pt")["input_ids"]
        return float(bart.model(input_ids=source, labels=labels).loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", type=int, default=600, help="rows of the row-by-row way")
    parser.add_argument("--neural", action="store_true")
    parser.add_argument("--size", choices=("sample", "real"), default="sample")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="distinct pairs")
    args = parser.parse_args()
    pairs = made_up()
    kept = set(sorted(set(pairs))[:: max(1, PAIRS // args.pairs)])
    pairs = [pair for pair in pairs if pair in kept]
    print(f"{len(pairs)} rows, {len(set(pairs))} distinct pairs")
    if not args.neural:
        compare_lexical(pairs, args.part)
    elif args.size == "sample":
        compare_neural(pairs, args.part, FOLDER, layers=2)
    else:
        with tempfile.TemporaryDirectory() as name:
            real_size(Path(name))
            compare_neural(pairs, args.part, Path(name), layers=17)


if __name__ == "__main__":
    main()
