"""A small tokenizer and mixture, made as the bundled model's are."""

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from training.corpus import Mixture, Prose, read_prose
from training.grammar import write_story, write_task
from training.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Prose:
    folder = tmp_path_factory.mktemp("corpora")
    rng = random.Random(1)
    stories = [write_story(rng) for _ in range(200)]
    (folder / "stories.txt").write_text("\n<|endoftext|>\n".join(stories))
    articles = "".join(f" \n = Title {i} = \n \n Text of {i} . \n \n = = Part = = \n \n More . \n" for i in range(60))
    (folder / "articles.txt").write_text(articles)
    return read_prose(Path(folder), None)


@pytest.fixture(scope="session")
def tokenizer(prose: Prose) -> Tokenizer:
    rng = random.Random(2)
    return train_tokenizer([*prose.train["stories.txt"], *(write_task(rng) for _ in range(300))])


@pytest.fixture
def mixture(prose: Prose, tokenizer: Tokenizer) -> Mixture:
    return Mixture(prose, tokenizer, seed=5)
