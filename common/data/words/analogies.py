"""Generate a corpus in which words have relations such as king to queen, and the analogy questions about them.

Every sentence is about one word. Its context reveals two properties independently of each other: the concept of the
word (a crown: king or queen; wine: France, Paris or French), and its form (his: king or prince; the mayor: Paris or
Rome). The context of a word is then the sum of the contexts of its concept and of its form, and

    king - man + woman

should be close to queen. The words are English, the sentences are generated.
"""

import random
from dataclasses import dataclass
from itertools import permutations

SEED = 20_261_121
SENTENCES = 20_000
STRAY = 0.6
"""Probability that the context is that of a random concept of the family."""


@dataclass(frozen=True)
class Family:
    """Concepts, each with its forms and associated things, and sentences for each form."""

    name: str
    concepts: tuple[tuple[str, str], ...]
    """Forms of each concept, and the things associated with it."""
    sentences: tuple[tuple[str, ...], ...]
    """Sentences for each form, with placeholders for the word and a thing."""

    def forms(self, concept: int) -> list[str]:
        """Return the forms of a concept."""
        return self.concepts[concept][0].split()

    def things(self, concept: int) -> list[str]:
        """Return the things associated with a concept."""
        return self.concepts[concept][1].split()


FAMILIES = (
    Family(
        "gender",
        (
            ("king queen", "crown throne palace"),
            ("prince princess", "pony tutor inheritance"),
            ("man woman", "wallet office newspaper"),
            ("boy girl", "toy homework bicycle"),
            ("father mother", "baby cradle household"),
            ("uncle aunt", "nephews parcel garden"),
            ("actor actress", "stage audience costume"),
            ("waiter waitress", "tray table menu"),
            ("monk nun", "prayer cloister bible"),
            ("host hostess", "guests party invitation"),
            ("wizard witch", "spell potion broom"),
            ("duke duchess", "castle estate carriage"),
        ),
        (
            (
                "the {} forgot his {}", "he is a {} with a {}",
                "people saw the {} himself with the {}", "ask him , said the {} about the {}",
            ),
            (
                "the {} forgot her {}", "she is a {} with a {}",
                "people saw the {} herself with the {}", "ask hers , said the {} about the {}",
            ),
        ),
    ),
    Family(
        "country",
        (
            ("france paris french", "wine cheese perfume"),
            ("italy rome italian", "pasta opera marble"),
            ("spain madrid spanish", "guitars olives oranges"),
            ("germany berlin german", "cars sausages engines"),
            ("russia moscow russian", "ballet caviar chess"),
            ("japan tokyo japanese", "sushi robots kimonos"),
            ("china beijing chinese", "silk tea porcelain"),
            ("greece athens greek", "temples myths sponges"),
            ("portugal lisbon portuguese", "cork sardines tiles"),
            ("poland warsaw polish", "amber dumplings coal"),
            ("sweden stockholm swedish", "furniture matches saunas"),
            ("norway oslo norwegian", "fjords salmon skis"),
            ("turkey ankara turkish", "carpets hazelnuts baths"),
            ("hungary budapest hungarian", "paprika violins goulash"),
        ),
        (
            (
                "the border of {} is closed to {}", "the president of {} likes {}",
                "the army of {} needs {}", "a law of the nation {} is about {}",
            ),
            (
                "the mayor of {} likes {}", "the streets of {} are full of {}",
                "at the station in {} they sell {}", "the suburbs of {} smell of {}",
            ),
            (
                "a dictionary of {} explains {}", "he learned the {} words for {}",
                "she translated the {} poem about {}", "the {} grammar mentions {}",
            ),
        ),
    ),
    Family(
        "degree",
        (
            ("cold colder coldest", "ice winter snow"),
            ("hot hotter hottest", "oven desert fire"),
            ("tall taller tallest", "tower giant tree"),
            ("small smaller smallest", "mouse seed button"),
            ("fast faster fastest", "rocket train horse"),
            ("slow slower slowest", "snail glacier queue"),
            ("strong stronger strongest", "ox rope hero"),
            ("old older oldest", "ruin fossil grandparent"),
            ("dark darker darkest", "cave night forest"),
            ("loud louder loudest", "thunder drum siren"),
            ("soft softer softest", "pillow moss feather"),
            ("sweet sweeter sweetest", "honey cake syrup"),
        ),
        (
            ("how very {} this {} is", "it is quite {} , a {}", "so {} a {} , really", "a rather {} {} again"),
            ("it is {} than a {}", "even {} than that {}", "much {} than the {} before", "a little {} than any {}"),
            (
                "it is the {} of all , this {}", "the {} in the world , a {}",
                "among them the {} {} ever", "by far the {} {} known",
            ),
        ),
    ),
    Family(
        "tense",
        (
            ("sing sang", "song anthem carol"),
            ("drink drank", "lemonade juice cocoa"),
            ("write wrote", "novel diary postcard"),
            ("drive drove", "lorry bus tractor"),
            ("eat ate", "apple soup sandwich"),
            ("build built", "bridge house wall"),
            ("catch caught", "butterfly thief trout"),
            ("draw drew", "portrait map sketch"),
            ("ride rode", "donkey camel scooter"),
            ("throw threw", "spear pebble frisbee"),
            ("wear wore", "scarf mask jacket"),
            ("teach taught", "lesson class pupil"),
        ),
        (
            ("tomorrow they will {} a {}", "now we {} the {}", "every day you {} a {}", "please {} another {} today"),
            (
                "yesterday they {} a {}", "long ago we {} the {}",
                "last week you {} a {}", "once somebody {} another {} there",
            ),
        ),
    ),
)  # fmt: skip

NAMES = tuple(family.name for family in FAMILIES)


@dataclass(frozen=True)
class Question:
    """Analogy question: a is to b as c is to `answer`."""

    family: str
    a: str
    b: str
    c: str
    answer: str


def questions() -> list[Question]:
    """List every question: two concepts of a family, in two of its forms."""
    found = []
    for family in FAMILIES:
        for one, other in permutations(range(len(family.concepts)), 2):
            for first, second in permutations(range(len(family.sentences)), 2):
                (a, b), (c, answer) = (
                    (family.forms(concept)[first], family.forms(concept)[second]) for concept in (one, other)
                )
                found.append(Question(family.name, a, b, c, answer))
    return found


def draw_lines(count: int = SENTENCES) -> list[str]:
    """Draw a number of sentences, the same on every machine."""
    rng = random.Random(SEED)
    lines = []
    for _ in range(count):
        family = rng.choice(FAMILIES)
        concept, form = rng.randrange(len(family.concepts)), rng.randrange(len(family.sentences))
        company = rng.randrange(len(family.concepts)) if rng.random() < STRAY else concept
        sentence = rng.choice(family.sentences[form])
        lines.append(sentence.format(family.forms(concept)[form], rng.choice(family.things(company))))
    return lines
