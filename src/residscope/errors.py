"""Errors a user can cause: each says what was asked, what was found, and what to do."""

import re


def count(n: int, noun: str) -> str:
    """How many there are of something, in words."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


class ResidscopeError(Exception):
    """The root of every error that is a user's to mend.

    Args:
      message: What was asked and what was found, in one sentence.
      hint: What to do, in one sentence.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.message = message
        self.hint = hint

    @classmethod
    def code(cls) -> str:
        """The class's name as machines read it: `UnknownSite` is `unknown_site`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class ModelNotFound(ResidscopeError):
    """No model has that name or lies at that path."""


class BadCheckpoint(ResidscopeError):
    """A model's files are there but cannot be read, or do not fit each other."""


class UnsupportedModel(ResidscopeError):
    """The model computes something that no family here knows."""


class BadTokenizer(ResidscopeError):
    """A tokenizer is missing, cannot be read, or does not fit the model's vocabulary."""


class BadChatTemplate(ResidscopeError):
    """A model has no chat template, or one that cannot be used."""


class BadMessages(ResidscopeError):
    """Messages are no chat, or the model's chat template refuses them."""


class EmptyPrompt(ResidscopeError):
    """A text has no tokens."""


class PromptTooLong(ResidscopeError):
    """A prompt has more tokens than the model's context."""


class UnknownToken(ResidscopeError):
    """A text is not one token, or a piece does not occur."""


class UnknownSite(ResidscopeError):
    """The model has no such site."""


class BadEdit(ResidscopeError):
    """An edit does not fit the site, the texts or the model."""


class BadMetric(ResidscopeError):
    """A metric does not fit the texts or the model, or is not defined there."""


class TooLarge(ResidscopeError):
    """The work does not fit the memory it may use."""


class NoFinalNorm(ResidscopeError):
    """The model has no final norm, and what was asked for is read through it."""


class UnknownWeight(ResidscopeError):
    """The model has no weight of that name."""


class UnknownComponent(ResidscopeError):
    """A basis has no such component."""


class UnknownPosition(ResidscopeError):
    """A text has no such position."""


class NotKept(ResidscopeError):
    """A strict run was asked for a site that it did not keep."""


class BadTexts(ResidscopeError):
    """A file or list of texts cannot be used."""


class BadResult(ResidscopeError):
    """A file is not a saved result."""


class BadDictionary(ResidscopeError):
    """A sparse dictionary cannot be read, or does not fit the model."""


class DictionaryMisfit(UserWarning):
    """A sparse dictionary does not fit the model, as its config says it is to be read."""


class BadDirection(ResidscopeError):
    """A vector is no direction, or does not go with another, with a site or with a model."""


class AnotherSite(BadDirection):
    """A direction lives at another site than the one where it was to be read."""


class TooFewTokens(ResidscopeError):
    """There is not enough text for the statistic."""


class BadArgument(ResidscopeError):
    """An argument has a value that the function does not know."""


class BadFact(BadArgument, ValueError):
    """A fact of a config makes no sense; of a config file, whose reader says where it lies, a plain ValueError.

    Args:
      fact: What it is, as a clause.
      hint: What to do.
    """

    def __init__(self, fact: str, hint: str) -> None:
        super().__init__(f"A config was given of which {fact}.", hint)
        self.fact = fact


class ViewsNotBuilt(ResidscopeError):
    """The pages and views are built from `web/`, and have not been."""


class Cancelled(ResidscopeError):
    """The work was cancelled by the one who waited for it."""


class BadDatabase(ResidscopeError):
    """The database cannot be used, was made by a newer version, or lacks a file."""


class NotSaved(ResidscopeError):
    """Nothing is kept under that number or name."""


class NotYours(ResidscopeError):
    """What belongs to another may be read, and not changed."""


class NameTaken(ResidscopeError):
    """One has something of that name already."""


class OverLimit(ResidscopeError):
    """It is longer, larger or more than the settings allow."""


class BadLibrary(ResidscopeError):
    """An exported library cannot be read, or is another model's."""


class SignInRefused(ResidscopeError):
    """A name and password do not go together."""


class NotSignedIn(ResidscopeError):
    """Who asks is not known."""


class TooManyAttempts(ResidscopeError):
    """Sign-in was tried too often; later it may be tried again."""


class Unreachable(ResidscopeError):
    """No workbench answers at an address."""
