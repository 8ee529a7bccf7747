"""WordNet's reader gives NLTK's results."""

import random
from itertools import pairwise

from nltk.corpus.reader.wordnet import WordNetCorpusReader

from abo_vqa.evaluation import wordnet
from abo_vqa.evaluation.wordnet_reader import WordNetReader


def test_similarities_are_the_stock_readers():
    place = wordnet.ensure_wordnet()

    class Stock(WordNetCorpusReader):
        def map_wn(self, version="wordnet"):
            return {}  # other languages only; takes seconds

    own, stock = WordNetReader(place), Stock(place, None)
    words = random.Random(0).sample(sorted(own.all_lemma_names()), 100)
    for word, other in pairwise(words):
        assert [x.name() for x in own.synsets(word)] == [x.name() for x in stock.synsets(word)]
        mine = [own.wup_similarity(a, b) for a in own.synsets(word) for b in own.synsets(other)]
        theirs = [a.wup_similarity(b) for a in stock.synsets(word) for b in stock.synsets(other)]
        assert mine == theirs
