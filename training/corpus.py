"""What the bundled model reads: prose from files, stories sampled from another model, tasks, and repeated tokens."""

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from residscope.running.texts import read_texts
from training.grammar import write_story, write_task

Ids = Int[Tensor, "batch pos"]
Piece = tuple[str, list[int]]  # a source, and tokens
Pieces = Iterator[Piece]

N_POS = 128
SHARES = {"prose": 0.45, "tasks": 0.3, "repeats": 0.25}
HELD_OUT_SHARE = 0.05
STORY, TASK, REPEAT = "stories of the grammar", "tasks of the grammar", "repeated random tokens"
STORIES = "tinystories_sample_2MB.txt"
_REAL_STORIES = 4.0  # how much more often they are drawn than their length says
_STORIES = 0.15  # of prose: from the grammar
_PREFIXED = 0.5  # of tasks
_LONGEST_PREFIX = 40


@dataclass(frozen=True)
class Prose:
    """Documents by their source, those for training and those that it never sees.

    Attributes:
      train, held_out: By the name of the file.
      weights: How often a source is drawn, against the others.
    """

    train: dict[str, list[str]]
    held_out: dict[str, list[str]]
    weights: dict[str, float]


def read_prose(corpora: Path, sampled: Path | None) -> Prose:
    """The corpora, and sampled stories; every twentieth document is held out.

    Args:
      corpora: A folder of text files.
      sampled: A file of stories that another model wrote, none of which is held out.
    """
    train, held_out = {}, {}
    for path in sorted(corpora.glob("*.txt")):
        texts = [piece for text in read_texts(path) for piece in _split_articles(text)]
        kept = random.Random(path.name).sample(range(len(texts)), max(1, int(len(texts) * HELD_OUT_SHARE)))
        apart = {*kept}
        train[path.name] = [text for number, text in enumerate(texts) if number not in apart]
        held_out[path.name] = [texts[number] for number in sorted(apart)]
    if sampled:
        train[sampled.name] = read_texts(sampled)
    weights = {
        name: sum(map(len, texts)) * (_REAL_STORIES if name == STORIES else 1.0) for name, texts in train.items()
    }
    return Prose(train, held_out, weights)


def _split_articles(text: str) -> list[str]:
    """Of an encyclopedia in one text its articles, each under a heading like ` = Title = `; any other as it is."""
    return [piece.strip() for piece in re.split(r"\n(?= = [^=])", text) if piece.strip()]


class Mixture:
    """Batches of the mixture, each made from the seed and its number alone: a training goes on where it stopped.

    Args:
      prose: Documents.
      tokenizer: The model's.
      seed: Of everything that is drawn.
      shares: Of the sequences, by kind.
    """

    def __init__(self, prose: Prose, tokenizer: Tokenizer, seed: int, shares: Mapping[str, float] = SHARES) -> None:
        self.tokenizer, self.seed, self._shares = tokenizer, seed, shares
        self.bos = tokenizer.encode("").ids[0]
        self.n_tokens = tokenizer.get_vocab_size()
        self._sources = list(prose.train)
        self._weights = [prose.weights[name] for name in self._sources]
        self._documents = {
            name: [np.array(one.ids, dtype=np.int32) for one in tokenizer.encode_batch(texts)]
            for name, texts in prose.train.items()
        }

    def make_batch(self, number: int, n_sequences: int, n_pos: int = N_POS) -> Ids:
        """Sequences that begin with the first token; the shares of each kind hold on average."""
        rng = random.Random(f"{self.seed} {number}")
        rows = ([token for _, ids in pieces for token in ids] for pieces in self._draw(rng, n_sequences, n_pos))
        return torch.tensor([row[:n_pos] for row in rows])

    def measure_shares(self, n_sequences: int) -> dict[str, float]:
        """The share of the tokens that each source has, over so many sequences of the usual length."""
        counts: Counter[str] = Counter()
        for pieces in self._draw(random.Random(f"{self.seed} shares"), n_sequences, N_POS):
            room = N_POS
            for source, ids in pieces:
                counts[source] += min(len(ids), room)
                room -= min(len(ids), room)
        return {source: n / counts.total() for source, n in counts.most_common()}

    def _draw(self, rng: random.Random, n_sequences: int, n_pos: int) -> Iterator[Pieces]:
        """Sequences of at least so many tokens, in pieces, each with its source."""
        makers = {"prose": self._prose, "tasks": self._tasks, "repeats": self._repeats}
        kinds = rng.choices(list(self._shares), list(self._shares.values()), k=n_sequences)
        return (makers[kind](rng, n_pos) for kind in kinds)

    def _prose(self, rng: random.Random, n_pos: int) -> Pieces:
        room = n_pos
        while room > 0:
            if rng.random() < _STORIES:
                source, ids = STORY, self.tokenizer.encode(write_story(rng)).ids
            else:
                source, document = self._document(rng)
                longest = len(document) - room
                start = rng.randint(0, longest) if longest > 0 and rng.random() < 0.7 else 0
                ids = [self.bos, *document[start or 1 : start + n_pos].tolist()]
            room -= len(ids)
            yield source, ids

    def _tasks(self, rng: random.Random, n_pos: int) -> Pieces:
        room = n_pos
        while room > 0:
            source, before = self._prefix(rng) if rng.random() < _PREFIXED else (TASK, [])
            text = write_task(rng)
            own = self.tokenizer.encode(f" {text}" if before else text).ids[1:]
            yield from ((TASK, [self.bos]), (source, before), (TASK, own))
            room -= 1 + len(before) + len(own)

    def _prefix(self, rng: random.Random) -> Piece:
        source, document = self._document(rng)
        start, n = rng.randrange(len(document)), rng.randint(1, _LONGEST_PREFIX)
        return source, document[max(1, start) : start + n].tolist()

    def _repeats(self, rng: random.Random, n_pos: int) -> Pieces:
        period = rng.randint(4, (n_pos - 1) // 2)
        once = [rng.randrange(1, self.n_tokens) for _ in range(period)]
        yield REPEAT, [self.bos, *(once * (n_pos // period + 1))]

    def _document(self, rng: random.Random) -> tuple[str, np.ndarray]:
        source = rng.choices(self._sources, self._weights)[0]
        return source, rng.choice(self._documents[source])
