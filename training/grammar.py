"""Text from a seeded grammar: stories with names and pronouns, and the tasks in the training's own wordings."""

import random
from itertools import product

from residscope.demo.words import (
    CENTURIES,
    EVENTS,
    HELD_OUT_EVENTS,
    HELD_OUT_LAST_NAMES,
    HELD_OUT_NAMES,
    HELD_OUT_NOUNS,
    LAST_NAMES,
    NAMES,
    NOUNS,
    OBJECTS,
    PLACES,
    VERBS,
)

# None has the first half of a wording of `residscope.demo.tasks`, though all words of these stand in others.
MEETINGS = (
    *(
        f"{begin} {{A}} and {{B}} {meet} the {{place}}{together},"
        for begin, meet, together in product(
            ("When", "After", "As", "Before", "Since", "Just when", "While", "Because", "Once", "Now that"),
            (
                "ran to",
                "came home from",
                "had been at",
                "walked to",
                "were sitting in",
                "met by",
                "looked for",
                "sat down near",
                "came back to",
                "went past",
                "stood at",
            ),
            ("", " together"),
        )
    ),
    *(
        f"{begin}{{A}} and {{B}} {meet}. {then}"
        for begin, meet, then in product(
            ("", "One day ", "In the morning ", "Last week ", "Once ", "Today "),
            (
                "were at the {place}",
                "played in the {place}",
                "had lunch near the {place}",
                "waited outside the {place}",
                "sat at the {place} together",
                "came together to the {place}",
                "went to the {place} again",
                "met in the {place}",
            ),
            ("Soon", "Then", "After a while", "So", "There", "Later"),
        )
    ),
    "Then {A} and {B} had a long day at the {place}, and",
    "Yesterday {A} met {B} near the {place}, and",
    "On Sunday {A} saw {B} in the {place}. Later",
    "{A} has a cousin called {B}. At the {place}",
    "It was {A} who found {B} at the {place}. Then",
    "{A} asked {B} to come to the {place}. In the end",
    "{A} sat beside {B} at the {place}, and",
    "{A} went with {B} to the {place}, where",
)
GIVINGS = (
    *(
        f"{{S}} {gave} {the} {{object}} to"
        for gave, the in product(
            [
                *"gave handed passed sent showed sold carried offered brought took".split(),
                "wanted to give",
                "decided to hand",
            ],
            ("the", "a", "the old", "one more"),
        )
    ),
    "{S} took a {object} and gave it to",
    "{S} found the {object} and showed it to",
    "{S} said something nice to",
    "{S} read a story to",
    "{S} told a secret to",
)
ENDINGS = (".", " with a smile.", " and they were happy.", " before dinner.", " again.", ", who said thank you.")

INTRODUCTIONS = (
    "{Her} name was {first} {last}.",
    "This is {first} {last}.",
    "My cousin is {first} {last}.",
    "Once there was a {noun} named {first} {last}.",
    "At the {place} we saw {first} {last}.",
    "I know {first} {last} very well.",
    "Yesterday we met {first} {last}.",
    "Here comes {first} {last}.",
)
RETURNS = (
    "Everyone in the {place} liked {first} {last}.",
    "One day a letter came for {first} {last}.",
    "The {noun} looked at {first} {last}.",
    "It was {first} {last} who had the {object}.",
    "We will always remember {first} {last}.",
    "Then {first} {last} went to the {place}.",
    "They all talked about {first} {last}.",
    "Soon {first} {last} was at the {place}.",
)

CLAUSES = tuple(
    f"{begin} {{noun}} {between} {{verb}}"
    for begin, between in product(
        (
            "The",
            "I think the",
            "At the {place} the",
            "Then the",
            "Everyone knew that the",
            "One morning the",
            "They said the",
            "After the {event} the",
            "Today the",
            "Now the",
            "In a {place} the",
            "Near a {place} the",
            "By the {place} the",
            "Today I heard that the",
            "Not far from the {place} the",
        ),
        (
            "that the {other} saw",
            "that the {other} found",
            "that the {other} had met",
            "that the {other} had liked",
            "that the old {other} had seen",
            "that had seen the {other}",
            "that liked the {other}",
            "that had helped the {other}",
            "that ran after the {other}",
            "that followed the old {other}",
            "near the {other}",
            "behind the {other}",
            "beside the {other}",
            "with the {other}",
            "next to the old {other}",
            "next to some {other}",
            "close to the {other}",
            "in front of the {other}",
            "of the {other} in the {place}",
            "between the {other} and the {place}",
            "who met the {other}",
            "who lived with the {other}",
            "who waited for the {other}",
            "who had followed the {other}",
            "who followed some {other}",
        ),
    )
)
STATES = {
    "was": "happy tired old small kind late".split(),
    "were": "happy tired old small kind late".split(),
    "is": "happy tired old small kind here".split(),
    "are": "happy tired old small kind here".split(),
    "has": ["a red hat", "a new ball", "big eyes", "much to do"],
    "have": ["a red hat", "a new ball", "big eyes", "much to do"],
}

SPANS = (
    *(
        f"{begin} {{event}} {span}."
        for begin, span in product(
            ("The", "A", "The old", "The king's", "That old", "The very long", "Their", "The first"),
            (
                "lasted from {century}{start} to {century}{end}",
                "lasted from the year {century}{start} until the year {century}{end}",
                "went on from the year {century}{start} to the year {century}{end}",
                "went on between {century}{start} and {century}{end}",
                "was there from {century}{start} until {century}{end}",
                "came back from {century}{start} until the year {century}{end}",
                "began in {century}{start} and ended in {century}{end}",
                "started in the year {century}{start} and was over in the year {century}{end}",
                "of the year {century}{start} was still there in {century}{end}",
            ),
        )
    ),
    "It was a {event} from {century}{start} to {century}{end}.",
    "From {century}{start} to {century}{end} there was a {event}.",
    "They had a {event} in {century}{start}, and another in {century}{end}.",
)

DISTRACTORS = (
    "The sun was warm that day.",
    "The {noun} slept under a tree.",
    "There was a {object} on the table.",
    "It rained all morning.",
    "The {place} was quiet.",
    "A {noun} ran by.",
    "Everybody was hungry.",
    "Nobody saw the {object}.",
)

OPENINGS = (
    "Once upon a time there was a {noun} named {A}.",
    "One day {A} went to the {place}.",
    "{A} and {B} lived near the {place}.",
    "{A} had a {object}.",
    "Once there were two {nouns} at the {place}.",
    "After the {event} {A} was tired.",
)
MIDDLES = (
    "{A} liked the {object} very much.",
    "{He} wanted to find a {object}.",
    "{He} asked {B} for help.",
    '"Can you help me?" said {A}.',
    '"Yes," said {B}, and they went to the {place}.',
    "In the {place} {he} saw a {noun}.",
    "The {noun} had {his} {object}.",
    "{B} smiled at {A}.",
    "{A} put the {object} in the {place}.",
    "The {nouns} ran by.",
    "Many {nouns} liked {A}.",
    "They all talked about the {event}.",
    "Some {nouns} came to see the {event}.",
    "{B} gave {A} a {object}.",
    "{A} told {B} about the {noun}.",
    "{A} and {B} sat down near the {place}.",
    "Then {B} called {A}.",
    "The {noun} was very hungry.",
    "The {nouns} were very hungry.",
    "The {noun} is small.",
    "The {nouns} are small.",
    "The {noun} has gone home.",
    "The {nouns} have gone home.",
    "The {noun} at the {place} was happy.",
    "The {nouns} at the {place} were happy.",
    "The {noun} from the {place} is here.",
    "The {nouns} from the {place} are here.",
    "That {noun} in the {place} has a {object}.",
    "Those {nouns} in the {place} have a {object}.",
)
MUTUAL = (
    "{A} thanked {B}.",
    "{A} helped {B} with the {object}.",
    "{A} looked at {B}.",
    "Then {A} followed {B} home.",
    "{A} sat down beside {B}.",
    "{A} was afraid, but {B} was not.",
    "So {A} waved to {B}.",
    "{A} wanted to play with {B}.",
    "In the evening {A} said good night to {B}.",
    "{A} told {B} about the {event}.",
)
CLOSINGS = ("They were happy.", "{A} went home.", "Then {he} went to sleep.", "{B} said good night to {A}.")

FEMALE = set(
    "Mary Anna Emma Sarah Laura Julia Alice Helen Susan Kate Jane Rose Lucy Amy Sue Lily Mia Ella Grace Nina Clara "
    "Ruth Martha Sophie Eva Diana Carol Irene Nancy Judy Betty".split()
)


def write_task(rng: random.Random) -> str:
    """One of the tasks, solved, sometimes with a sentence before or in between that has nothing to do with it."""
    kind = rng.choices((_who_receives, _three_names, _last_name, _agreement, _years), (38, 14, 8, 22, 18))[0]
    return kind(rng)


def write_story(rng: random.Random, *, even: bool = False) -> str:
    """A few sentences with names and pronouns; here the held-out words occur too, and as often as the others.

    Args:
      rng: What draws.
      even: Whether both people are named as often: else the first one is named more, which a model learns of a name.
    """
    names = [rng.choice(rng.choice((NAMES, HELD_OUT_NAMES))) for _ in range(2)]
    if names[0] == names[1]:
        return write_story(rng, even=even)
    middles = [*MIDDLES, *MUTUAL, *MUTUAL] if even else MIDDLES
    lines = [rng.choice(OPENINGS), *rng.sample(middles, rng.randint(2, 5)), rng.choice(CLOSINGS)]
    if even:
        lines = [_swap(line) if rng.random() < 0.5 else line for line in lines]
    if rng.random() < 0.3:
        lines.insert(1, "{A}'s last name was " + rng.choice(rng.choice((LAST_NAMES, HELD_OUT_LAST_NAMES))) + ".")
    she = names[0] in FEMALE
    facts = {"A": names[0], "B": names[1], "he": "she" if she else "he", "his": "her" if she else "his"}
    return " ".join(_fill(rng, line, He="She" if she else "He", held_out=True, **facts) for line in lines)


def _swap(line: str) -> str:
    """With the people changed about; not where a pronoun says who is who."""
    pronoun = any(word in line.lower() for word in ("{he}", "{his}"))
    return line if pronoun else line.replace("{A}", "{}").replace("{B}", "{A}").replace("{}", "{B}")


def _fill(rng: random.Random, frame: str, *, held_out: bool = False, **facts: str) -> str:
    nouns = rng.choice((NOUNS, HELD_OUT_NOUNS)) if held_out else NOUNS
    events = rng.choice((EVENTS, HELD_OUT_EVENTS)) if held_out else EVENTS
    drawn = {"place": rng.choice(PLACES), "object": rng.choice(OBJECTS), "event": rng.choice(events)}
    drawn |= {"noun": rng.choice(nouns)[0], "nouns": rng.choice(nouns)[1]}
    return frame.format(**{**drawn, **facts})


def _distract(rng: random.Random, share: float) -> str:
    return f" {_fill(rng, rng.choice(DISTRACTORS))}" if rng.random() < share else ""


def _who_receives(rng: random.Random) -> str:
    first, second = rng.sample(NAMES, 2)
    giver, receiver = (first, second) if rng.random() < 0.5 else (second, first)
    meeting = _fill(rng, rng.choice(MEETINGS), A=first, B=second)
    between = _distract(rng, 0.25) if meeting.endswith(".") else ""
    giving = _fill(rng, rng.choice(GIVINGS), S=giver)
    before = _distract(rng, 0.2).strip()
    return f"{before} {meeting}{between} {giving} {receiver}{rng.choice(ENDINGS)}".strip()


def _three_names(rng: random.Random) -> str:
    """A third one gives: each of the two is as likely to receive."""
    first, second, giver = rng.sample(NAMES, 3)
    meeting = _fill(rng, rng.choice(MEETINGS), A=first, B=second)
    giving = _fill(rng, rng.choice(GIVINGS), S=giver)
    return f"{meeting} {giving} {rng.choice((first, second))}{rng.choice(ENDINGS)}"


def _last_name(rng: random.Random) -> str:
    """Someone named in full, and named in full again; sometimes two of them."""
    n = 1 if rng.random() < 0.6 else 2
    people = list(zip(rng.sample(NAMES, n), rng.sample(LAST_NAMES, n), strict=True))
    lines = [_introduce(rng, *one) for one in people]
    rng.shuffle(people)
    lines += [
        _fill(rng, rng.choice(RETURNS), first=first, last=last) + _distract(rng, 0.2)
        for first, last in people
        for _ in range(rng.randint(1, 2))
    ]
    return " ".join(lines)


def _introduce(rng: random.Random, first: str, last: str) -> str:
    her = "Her" if first in FEMALE else "His"
    return _fill(rng, rng.choice(INTRODUCTIONS), first=first, last=last, Her=her) + _distract(rng, 0.4)


def _agreement(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(1, 2)):
        noun, other = rng.sample(NOUNS, 2)
        several = rng.randrange(2)
        verb, apart = rng.choice(VERBS)[several], rng.random() < 0.7
        clause = _fill(rng, rng.choice(CLAUSES), noun=noun[several], other=other[several ^ apart], verb=verb)
        lines.append(f"{clause} {rng.choice(STATES[verb])}.")
    return " ".join(lines)


def _years(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(1, 3)):
        start, event, century = rng.randint(0, 98), rng.choice(EVENTS), str(rng.choice(CENTURIES))
        end = rng.randint(start + 1, 99)
        frame = rng.choice(SPANS)
        lines.append(frame.format(event=event, century=century, start=f"{start:02}", end=f"{end:02}"))
    return " ".join(lines)
