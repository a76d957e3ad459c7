"""The bundled model's tokenizer: byte-level BPE, two digits at a time, the tasks' words whole."""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from residscope.demo import words

BOS = "<|endoftext|>"
N_TOKENS = 2048
_OFTEN = 4000  # how often the trainer sees each of the words that are to be whole


def whole_words() -> list[str]:
    """Every word and number that has to be one token, as it stands in a text."""
    nouns = [word for pair in (*words.NOUNS, *words.HELD_OUT_NOUNS, *words.VERBS) for word in pair]
    names = [*words.NAMES, *words.HELD_OUT_NAMES, *words.LAST_NAMES, *words.HELD_OUT_LAST_NAMES]
    others = [*words.PLACES, *words.OBJECTS, *words.EVENTS, *words.HELD_OUT_EVENTS, *nouns]
    centuries = [str(century) for century in words.CENTURIES]
    return [f" {word}" for word in (*names, *others, *centuries)] + [f"{year:02}" for year in range(100)]


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer of `N_TOKENS` tokens that puts `BOS` before every text.

    Args:
      texts: What it is to write shortly.
    Holds:
      Each of `whole_words` is one token.
    """
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\d{1,2}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=N_TOKENS,
        special_tokens=[AddedToken(BOS, special=True)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    frequent = (word for word in whole_words() for _ in range(_OFTEN))
    backend.train_from_iterator((text for part in (texts, frequent) for text in part), trainer)
    first = (BOS, backend.token_to_id(BOS))
    backend.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[first])
    return backend
