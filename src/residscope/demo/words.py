"""The words that tasks are made of; each is one token of the bundled model, with its space."""

# In the frames of the training's tasks.
NAMES = (
    "John Mary Tom Anna James Emma David Sarah Paul Laura Peter Julia Mark Alice Robert Helen Michael Susan Daniel "
    "Kate George Jane Henry Rose Jack Lucy Sam Amy Ben Sue Tim Lily Max Mia Fred Ella Adam Grace Alex Nina Leo Clara "
    "Simon Ruth Frank Martha Oliver Sophie Luke Eva"
).split()

# In prose and stories alone, never in a task's frame: what is done with them was not learned by heart.
HELD_OUT_NAMES = "Victor Diana Martin Carol Roger Irene Walter Nancy Philip Judy Arthur Betty".split()

LAST_NAMES = (
    "Hart Stone Miller Baker Carter Fisher Turner Walker Cooper Parker Mason Porter Hunter Taylor Brooks Woods Hill "
    "Rivers Fields Banks"
).split()
HELD_OUT_LAST_NAMES = "Marsh Archer Knight Lake Page Chandler Potter Farmer".split()

PLACES = "shops park school garden market beach library river house forest station farm museum office church".split()
OBJECTS = "bag ball book cake key ring letter apple box cup hat lamp map pen flower".split()

# One, and several.
NOUNS = (
    ("dog", "dogs"),
    ("cat", "cats"),
    ("boy", "boys"),
    ("girl", "girls"),
    ("bird", "birds"),
    ("horse", "horses"),
    ("teacher", "teachers"),
    ("doctor", "doctors"),
    ("farmer", "farmers"),
    ("child", "children"),
    ("king", "kings"),
    ("tree", "trees"),
    ("bear", "bears"),
    ("mouse", "mice"),
    ("man", "men"),
    ("woman", "women"),
    ("baby", "babies"),
    ("brother", "brothers"),
    ("rabbit", "rabbits"),
    ("frog", "frogs"),
    ("soldier", "soldiers"),
    ("fox", "foxes"),
    ("student", "students"),
    ("nurse", "nurses"),
    ("prince", "princes"),
    ("lion", "lions"),
    ("cow", "cows"),
    ("star", "stars"),
)
HELD_OUT_NOUNS = (("friend", "friends"), ("duck", "ducks"), ("sister", "sisters"), ("flower", "flowers"))
VERBS = (("was", "were"), ("is", "are"), ("has", "have"))

EVENTS = "war fair journey work peace party winter trip reign feast".split()
HELD_OUT_EVENTS = "storm game race hunt".split()
CENTURIES = (11, 12, 13, 14, 15, 16, 17, 18, 19)
