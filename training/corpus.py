"""What the bundled model reads: prose from files, stories sampled from another model, tasks, and repeated tokens."""

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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

HELD_OUT_SHARE = 0.05
STORY, TASK, REPEAT = "stories of the grammar", "tasks of the grammar", "repeated random tokens"
STORIES, SAMPLED = "tinystories_sample_2MB.txt", "sampled_stories.txt"
_OFTEN = {STORIES: 2.5, SAMPLED: 0.6}  # how much more often they are drawn than their length says
_SELDOM = 0.35  # all others
_PREFIXED = 0.5  # of tasks
_LONGEST_PREFIX = 40
_SHORTEST_PERIOD = 15
_EVERY = 40  # which steps are counted


@dataclass(frozen=True)
class Stage:
    """What a training is like from some step on.

    Attributes:
      begin: The step.
      lengths: How often a step has sequences of each length.
      longest_period: Of repeated tokens, which are said twice at least.
      shares: Of the sequences, by kind.
      rate: Learning rate of embeddings, norms and biases.
      stories: Share of prose that the grammar writes.
      even: Whether its stories name both people as often.
    """

    begin: int
    lengths: Mapping[int, float]
    longest_period: int
    shares: Mapping[str, float]
    rate: float = 0.0
    stories: float = 0.15
    even: bool = False


# Heads that find the token before, and what followed it last time, form on short sequences within two million tokens,
# and on long ones not at all; once there they learn the other positions. See docs/decisions/0009.
_TO_COPY = {"prose": 0.3, "tasks": 0.3, "repeats": 0.4}
_TO_SOLVE = {"prose": 0.42, "tasks": 0.43, "repeats": 0.15}
_TO_TELL = {"prose": 0.47, "tasks": 0.39, "repeats": 0.14}
STAGES = (
    Stage(0, {64: 1.0}, 31, _TO_COPY, 3e-4),
    Stage(1400, {64: 0.8, 128: 0.2}, 31, _TO_SOLVE, 1e-3),
    Stage(2000, {64: 0.5, 128: 0.35, 256: 0.15}, 50, _TO_SOLVE, 1.5e-3),
    Stage(3000, {64: 0.3, 128: 0.4, 256: 0.3}, 100, _TO_TELL, 1.5e-3, 0.2),
    Stage(8500, {64: 0.3, 128: 0.4, 256: 0.3}, 100, _TO_TELL, 1.5e-3, 0.35, even=True),
)


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
    weights = {name: sum(map(len, texts)) * _OFTEN.get(name, _SELDOM) for name, texts in train.items()}
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
      stages: Of the training.
    """

    def __init__(self, prose: Prose, tokenizer: Tokenizer, seed: int, stages: Sequence[Stage] = STAGES) -> None:
        self.tokenizer, self.seed, self._stages = tokenizer, seed, stages
        self.bos = tokenizer.encode("").ids[0]
        self.n_tokens = tokenizer.get_vocab_size()
        self._sources = list(prose.train)
        self._weights = [prose.weights[name] for name in self._sources]
        self._documents = {
            name: [np.array(one.ids, dtype=np.int32) for one in tokenizer.encode_batch(texts)]
            for name, texts in prose.train.items()
        }

    def find_stage(self, number: int) -> Stage:
        """The one that a step is in."""
        return max((stage for stage in self._stages if stage.begin <= number), key=lambda stage: stage.begin)

    def make_batch(self, number: int, n_tokens: int) -> Ids:
        """A step's sequences, all of one length that its stage has, and as many as make so many tokens."""
        n_pos, pieces = self._draw_step(number, n_tokens)
        rows = ([token for _, ids in row for token in ids] for row in pieces)
        return torch.tensor([row[:n_pos] for row in rows])

    def measure_shares(self, n_steps: int, n_tokens: int) -> dict[str, float]:
        """The share of so many steps' tokens that each source has."""
        counts: Counter[str] = Counter()
        for number in range(0, n_steps, _EVERY):
            n_pos, sequences = self._draw_step(number, n_tokens)
            for pieces in sequences:
                room = n_pos
                for source, ids in pieces:
                    counts[source] += min(len(ids), room)
                    room -= min(len(ids), room)
        return {source: n / counts.total() for source, n in counts.most_common()}

    def _draw_step(self, number: int, n_tokens: int) -> tuple[int, Iterator[Pieces]]:
        rng, stage = random.Random(f"{self.seed} {number}"), self.find_stage(number)
        (n_pos,) = rng.choices(list(stage.lengths), list(stage.lengths.values()))
        return n_pos, self._draw(rng, stage, n_tokens // n_pos, n_pos)

    def _draw(self, rng: random.Random, stage: Stage, n_sequences: int, n_pos: int) -> Iterator[Pieces]:
        """Sequences of at least so many tokens, in pieces, each with its source; they begin with the first token."""
        for kind in rng.choices(list(stage.shares), list(stage.shares.values()), k=n_sequences):
            if kind == "repeats":
                yield self._repeats(rng, n_pos, stage.longest_period)
            elif kind == "prose":
                yield self._prose(rng, n_pos, stage)
            else:
                yield self._tasks(rng, n_pos)

    def _prose(self, rng: random.Random, n_pos: int, stage: Stage) -> Pieces:
        room = n_pos
        while room > 0:
            if rng.random() < stage.stories:
                source, ids = STORY, self.tokenizer.encode(write_story(rng, even=stage.even)).ids
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

    def _repeats(self, rng: random.Random, n_pos: int, longest_period: int) -> Pieces:
        longest = min(longest_period, (n_pos - 1) // 2)
        period = rng.randint(min(_SHORTEST_PERIOD, longest), longest)
        once = [rng.randrange(1, self.n_tokens) for _ in range(period)]
        yield REPEAT, [self.bos, *(once * (n_pos // period + 1))]

    def _document(self, rng: random.Random) -> tuple[str, np.ndarray]:
        source = rng.choices(self._sources, self._weights)[0]
        return source, rng.choice(self._documents[source])
