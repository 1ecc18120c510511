"""Generate German sentences with English translations from a small grammar: every sentence has exactly one translation.

The sentences follow six patterns, in which the German words are in another order than the English ones:

    simple         Der Mann kauft einen Ball.                        The man buys a ball.
    adverb         Heute kauft der Mann einen Ball.                  Today the man buys a ball.
    object first   Einen Ball kauft der Mann.                        The man buys a ball.
    perfect        Der Mann hat einen Ball gekauft.                  The man has bought a ball.
    modal          Der Mann will einen Ball kaufen.                  The man wants to buy a ball.
    clause         Die Frau lacht, weil der Mann einen Ball kauft.   The woman laughs because the man buys a ball.

Articles and adjectives agree with the noun in gender and case. Compounds are written as one word: a `Holztisch` is a
`wooden table`. Some compounds occur in the validation set or in the test set only (`new compound`), while both of their
parts occur in other compounds of the training set. A model of whole words cannot translate them.
"""

import random
from typing import NamedTuple

from common.data.text.pairs import Pairs, PairSet, pair_set

SEED = 20_261_130
TRAIN, VALID, TEST = 10_000, 500, 1_000
NEW_COMPOUNDS = 12
"""Number of compounds in the validation set only, and in the test set only."""
PATTERNS = ("simple", "adverb", "object first", "perfect", "modal", "clause")
NEW = "new compound"


class Noun(NamedTuple):
    """A noun in both languages."""

    german: str
    gender: str
    """m, f or n"""
    english: str


class Verb(NamedTuple):
    """A transitive verb: third person singular, past participle and infinitive in both languages."""

    finite: str
    participle: str
    infinitive: str
    english: str
    english_participle: str
    english_infinitive: str


PERSONS = tuple(
    Noun(*words.split())
    for words in (
        *("Mann m man", "Frau f woman", "Kind n child", "Lehrer m teacher", "Mädchen n girl", "Vater m father"),
        *("Mutter f mother", "König m king", "Königin f queen", "Bäcker m baker", "Schwester f sister"),
        *("Bruder m brother", "Freund m friend", "Nachbarin f neighbour"),
    )
)
THINGS = tuple(
    Noun(*words.split())
    for words in (
        *("Ball m ball", "Tisch m table", "Stuhl m chair", "Ring m ring", "Turm m tower", "Schrank m cupboard"),
        *("Löffel m spoon", "Haus n house", "Buch n book", "Boot n boat", "Rad n wheel", "Brett n board"),
        *("Tür f door", "Kiste f box", "Brücke f bridge", "Lampe f lamp"),
    )
)
MATERIALS = {
    "Holz": "wooden",
    "Stein": "stone",
    "Glas": "glass",
    "Gold": "golden",
    "Silber": "silver",
    "Eisen": "iron",
    "Papier": "paper",
    "Leder": "leather",
}
OF_PERSONS = {"alt": "old", "jung": "young", "klein": "small", "groß": "tall", "klug": "clever", "freundlich": "kind"}
OF_THINGS = {"alt": "old", "neu": "new", "klein": "small", "groß": "big", "rot": "red", "schwer": "heavy"}
VERBS = tuple(
    Verb(*words.split())
    for words in (
        *("sieht gesehen sehen sees seen see", "kauft gekauft kaufen buys bought buy"),
        *("verkauft verkauft verkaufen sells sold sell", "findet gefunden finden finds found find"),
        *("holt geholt holen fetches fetched fetch", "malt gemalt malen paints painted paint"),
        *("trägt getragen tragen carries carried carry", "zeigt gezeigt zeigen shows shown show"),
        *("baut gebaut bauen builds built build", "putzt geputzt putzen cleans cleaned clean"),
        *("versteckt versteckt verstecken hides hidden hide", "zieht gezogen ziehen pulls pulled pull"),
    )
)
MODALS = {"will": "wants to", "kann": "can", "muss": "must", "darf": "may"}
ADVERBS = {"Heute": "Today", "Jetzt": "Now", "Manchmal": "Sometimes", "Hier": "Here"}
FEELINGS = {"lacht": "laughs", "weint": "cries", "singt": "sings", "wartet": "waits", "tanzt": "dances"}
CONJUNCTIONS = {"weil": "because", "während": "while", "obwohl": "although", "wenn": "when"}

ARTICLES = {
    ("the", "nominative"): {"m": "der", "f": "die", "n": "das"},
    ("the", "accusative"): {"m": "den", "f": "die", "n": "das"},
    ("a", "nominative"): {"m": "ein", "f": "eine", "n": "ein"},
    ("a", "accusative"): {"m": "einen", "f": "eine", "n": "ein"},
}
ENDINGS = {
    ("the", "nominative"): {"m": "e", "f": "e", "n": "e"},
    ("the", "accusative"): {"m": "en", "f": "e", "n": "e"},
    ("a", "nominative"): {"m": "er", "f": "e", "n": "es"},
    ("a", "accusative"): {"m": "en", "f": "e", "n": "es"},
}
"""Of adjectives."""


def compound(material: str, thing: Noun) -> Noun:
    """Join a material and a noun: Holz and Tisch are Holztisch, a wooden table."""
    return Noun(material + thing.german.lower(), thing.gender, f"{MATERIALS[material]} {thing.english}")


class Phrase(NamedTuple):
    """A noun with its article and perhaps an adjective."""

    article: str
    """the or a"""
    adjective: str
    """In German, without its ending; empty if there is none."""
    noun: Noun

    def german(self, case: str) -> str:
        """Write the phrase in German: `einen alten Mann`."""
        form = self.article, case
        adjective = f" {self.adjective}{ENDINGS[form][self.noun.gender]}" if self.adjective else ""
        return f"{ARTICLES[form][self.noun.gender]}{adjective} {self.noun.german}"

    def english(self) -> str:
        """Write the phrase in English: `an old man`."""
        adjectives = {"": "", **(OF_PERSONS if self.noun in PERSONS else OF_THINGS)}
        words = f"{adjectives[self.adjective]} {self.noun.english}".strip()
        article = "an" if self.article == "a" and words[0] in "aeiou" else self.article
        return f"{article} {words}"


def load_german(*, limit: int | None = None) -> PairSet:
    """Draw the pairs, the same on every machine; no sentence is in two splits."""
    rng = random.Random(SEED)
    compounds = [compound(material, thing) for material in MATERIALS for thing in THINGS]
    rng.shuffle(compounds)
    of_valid, of_test, of_train = (
        compounds[:NEW_COMPOUNDS],
        compounds[NEW_COMPOUNDS : 2 * NEW_COMPOUNDS],
        compounds[2 * NEW_COMPOUNDS :],
    )
    used = set[str]()
    splits = [
        draw(TRAIN, PATTERNS, of_train, [], rng, used),
        draw(VALID, (*PATTERNS, NEW), of_train, of_valid, rng, used),
        draw(TEST, (*PATTERNS, NEW), of_train, of_test, rng, used),
    ]
    return pair_set("german", splits, "embedded, drawn from a grammar", embedded=True, limit=limit)


def draw(
    count: int, kinds: tuple[str, ...], known: list[Noun], new: list[Noun], rng: random.Random, used: set[str]
) -> Pairs:
    """Draw a number of sentences, none of which is in `used`, of each kind equally many."""
    pairs = Pairs([], [], [])
    while len(pairs) < count:
        kind = kinds[len(pairs) % len(kinds)]
        pattern = rng.choice(PATTERNS) if kind == NEW else kind
        source, target = sentence(pattern, new if kind == NEW else [*THINGS, *known], rng)
        if source not in used:
            used.add(source)
            pairs.sources.append(source)
            pairs.targets.append(target)
            pairs.kinds.append(kind)
    return pairs


def sentence(pattern: str, things: list[Noun], rng: random.Random) -> tuple[str, str]:
    """Draw a sentence of a pattern about one of these things, and translate it."""
    subject = phrase(PERSONS, list(OF_PERSONS), rng)
    thing = phrase(things, list(OF_THINGS), rng)
    while pattern == "object first" and "m" not in (subject.noun.gender, thing.noun.gender):
        subject = phrase(PERSONS, list(OF_PERSONS), rng)  # only a masculine noun shows which of the two is the object
    verb = rng.choice(VERBS)
    who, what = subject.german("nominative"), thing.german("accusative")
    they, it = subject.english(), thing.english()
    if pattern == "simple":
        pair = f"{who} {verb.finite} {what}", f"{they} {verb.english} {it}"
    elif pattern == "adverb":
        adverb = rng.choice(list(ADVERBS))
        pair = f"{adverb} {verb.finite} {who} {what}", f"{ADVERBS[adverb]} {they} {verb.english} {it}"
    elif pattern == "object first":
        pair = f"{what} {verb.finite} {who}", f"{they} {verb.english} {it}"
    elif pattern == "perfect":
        pair = f"{who} hat {what} {verb.participle}", f"{they} has {verb.english_participle} {it}"
    elif pattern == "modal":
        modal = rng.choice(list(MODALS))
        pair = f"{who} {modal} {what} {verb.infinitive}", f"{they} {MODALS[modal]} {verb.english_infinitive} {it}"
    else:
        other, feels, link = phrase(PERSONS, [], rng), rng.choice(list(FEELINGS)), rng.choice(list(CONJUNCTIONS))
        pair = (
            f"{other.german('nominative')} {feels}, {link} {who} {what} {verb.finite}",
            f"{other.english()} {FEELINGS[feels]} {CONJUNCTIONS[link]} {they} {verb.english} {it}",
        )
    german, english = (f"{text[0].upper()}{text[1:]}." for text in pair)
    return german, english


def phrase(nouns: list[Noun] | tuple[Noun, ...], adjectives: list[str], rng: random.Random) -> Phrase:
    """Draw a noun, an article and, half of the time, an adjective."""
    adjective = rng.choice(adjectives) if adjectives and rng.random() < 0.5 else ""
    return Phrase(rng.choice(("the", "a")), adjective, rng.choice(nouns))
