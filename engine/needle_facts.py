"""What the made-up pages of `needles` tell: kinds of things, their names, and two wordings of each fact."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attribute:
    """Two wordings of one fact, each with the question in its words. `{0}` is whose it is, `{1}` what it is."""

    facts: tuple[str, str]
    questions: tuple[str, str]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """Things that have names and share attributes."""

    names: tuple[str, ...]
    attributes: tuple[Attribute, ...]


def kinds() -> tuple[Kind, ...]:
    """The kinds to calibrate on."""
    return (Kind(_people(), _of_people()), Kind(_firms(), _of_firms()), Kind(_ships(), _of_ships()), _books())


def other_kinds() -> tuple[Kind, ...]:
    """The kinds held out, to check what was found on the others."""
    return (Kind(_villages(), _of_villages()), Kind(_bridges(), _of_bridges()))


def filler() -> tuple[str, ...]:
    """Sentences about nothing that is asked."""
    return _split(
        "The rain had stopped by the time the market opened.|Nobody could say who had left the gate open.|"
        "A dog slept in the shade of the old wall all afternoon.|The letters were sorted twice and then put away.|"
        "Some of the older papers had been eaten by mice.|It took three men to move the table into the hall.|"
        "The road bends to the left just after the mill.|Breakfast was served late on account of the storm.|"
        "Most visitors leave before the lamps are lit.|The committee met again without reaching any decision.|"
        "A thin layer of dust covered everything in the room.|Two of the windows had been painted shut.|"
        "The children were told to wait by the fountain.|Prices rose a little in spring and fell again by autumn.|"
        "The clock in the corridor was always slow.|Every chair in the waiting room was taken.|"
        "In winter the path is covered with leaves and ice.|The singer forgot the second verse and laughed.|"
        "A crate of oranges had fallen from the cart.|The argument went on long after supper.|"
        "No one remembers why the custom was given up.|The garden had been left to itself for years.|"
        "Fresh bread could be smelled from the street.|The last train was delayed by fog."
    )


def _people() -> tuple[str, ...]:
    first = _split("Marta|Anders|Leila|Tomas|Ingrid|Rafael|Noor|Viktor|Celia|Bruno|Yuki|Edmund|Paloma|Stellan|Odile")
    last = _split("Olsen|Haddad|Brandt|Ferreira|Kovacs|Lindqvist|Moreau|Tanaka|Whitlow|Zelenka|Okafor|Ashby|Castellan")
    return tuple(f"{given} {family}" for given in first for family in last)


def _of_people() -> tuple[Attribute, ...]:
    return (
        _told(
            "{0} was born in {1}.|{0} came into the world in {1}.",
            "Where was {0} born?|In which town did {0} come into the world?",
            "Lindau|Kassel|Bergamo|Tromso|Évora|Aleppo|Galway|Nagano|Utrecht|Split",
        ),
        _told(
            "{0} works as a {1}.|{0} earns a living as a {1}.",
            "What does {0} work as?|How does {0} earn a living?",
            "surveyor|glassblower|midwife|court clerk|beekeeper|translator|carpenter|pilot|geologist|tailor",
        ),
        _told(
            "{0} is afraid of {1}.|Nothing frightens {0} as much as {1}.",
            "What is {0} afraid of?|What frightens {0} the most?",
            "thunder|spiders|deep water|heights|crowds|geese|darkness|mirrors|fire|snakes",
        ),
        _told(
            "{0} studied {1} at the university.|{0} holds a degree in {1}.",
            "What did {0} study at the university?|In which subject does {0} hold a degree?",
            "chemistry|law|Latin|botany|engineering|medicine|history|statistics|music theory|economics",
        ),
        _told(
            "{0} is married to {1}.|The spouse of {0} is called {1}.",
            "Who is {0} married to?|What is the spouse of {0} called?",
            "Jonas|Beatrix|Emil|Savita|Colette|Dragan|Hilde|Mirko|Rosalind|Teodor",
        ),
    )


def _firms() -> tuple[str, ...]:
    names = _split("Halden|Orvik|Mercator|Tessin|Bluewater|Quarrel|Pinnacle|Sabrana|Northgate|Velora|Ostrava|Lumen")
    return tuple(f"{name} {kind}" for name in names for kind in ("Works", "Brothers", "Holdings", "Mills"))


def _of_firms() -> tuple[Attribute, ...]:
    return (
        _told(
            "{0} was founded in {1}.|{0} opened its doors in {1}.",
            "When was {0} founded?|In what year did {0} open its doors?",
            "1871|1888|1902|1919|1926|1937|1948|1954|1963|1979",
        ),
        _told(
            "{0} makes {1}.|The factory of {0} turns out {1}.",
            "What does {0} make?|What does the factory of {0} turn out?",
            "door locks|violin strings|paint|ladders|umbrellas|clocks|rope|bicycles|soap|lenses",
        ),
        _told(
            "{0} has its headquarters in {1}.|The main office of {0} stands in {1}.",
            "Where does {0} have its headquarters?|In which city does the main office of {0} stand?",
            "Ghent|Malmo|Porto|Graz|Leeds|Gdansk|Nantes|Turin|Aarhus|Basel",
        ),
        _told(
            "{0} employs {1} people.|The payroll of {0} has {1} names on it.",
            "How many people does {0} employ?|How many names are on the payroll of {0}?",
            "140|215|320|460|575|690|810|925|1,040|1,300",
        ),
        _told(
            "{0} is led by {1}.|The head of {0} is {1}.",
            "Who leads {0}?|Who is the head of {0}?",
            "Ms Abara|Mr Dolan|Ms Eriksen|Mr Farouk|Ms Gallo|Mr Hesse|Ms Ionescu|Mr Jansen|Ms Keane|Mr Lopez",
        ),
    )


def _ships() -> tuple[str, ...]:
    first = _split("Grey|Silver|Northern|Patient|Bold|Restless|Golden|Quiet")
    return tuple(f"the {word} {name}" for word in first for name in ("Heron", "Lantern", "Duchess", "Swallow", "Tide"))


def _of_ships() -> tuple[Attribute, ...]:
    return (
        _told(
            "The captain of {0} was {1}.|It was {1} who commanded {0}.",
            "Who was the captain of {0}?|Who commanded {0}?",
            "Aldous Pike|Benno Raske|Cato Lund|Dirk Wessels|Elias Thorn|Fergus Boyd|Gil Amaro|Hugo Stern|Ivo Maric",
        ),
        _told(
            "On its last voyage {0} carried {1}.|When it went down, the hold of {0} was full of {1}.",
            "What did {0} carry on its last voyage?|What was in the hold of {0} when it went down?",
            "salt|timber|copper ore|wool|tea|slate|barley|whale oil|coffee|marble",
        ),
        _told(
            "{0} was built in {1}.|The shipyard that launched {0} lay in {1}.",
            "Where was {0} built?|Where did the shipyard lie that launched {0}?",
            "Bristol|Stettin|Bilbao|Rostock|Cork|Trieste|Boston|Bergen|Lisbon|Odessa",
        ),
        _told(
            "{0} sank because of {1}.|What doomed {0} in the end was {1}.",
            "Why did {0} sink?|What doomed {0} in the end?",
            "a hidden reef|a boiler explosion|an iceberg|a drunken pilot|rotten planks|a mutiny|a collision|a typhoon",
        ),
        _told(
            "{0} was {1} metres long.|From bow to stern {0} measured {1} metres.",
            "How long was {0}?|What did {0} measure from bow to stern?",
            "31|38|44|52|57|63|69|74|82|95",
        ),
    )


def _books() -> Kind:
    first = _split("The Salt|The Glass|A Borrowed|The Ninth|An Honest|The Paper|A Winter|The Last")
    names = tuple(f'"{word} {noun}"' for word in first for noun in ("Orchard", "Witness", "Harbour", "Ledger", "Choir"))
    attributes = (
        _told(
            "{0} was written by {1}.|The author of {0} is {1}.",
            "Who wrote {0}?|Who is the author of {0}?",
            "Ada Quill|Basil Norden|Clara Voss|Denis Roy|Esther Blum|Felix Arno|Greta Holm|Henri Duval|Irma Sand",
        ),
        _told(
            "{0} was published in {1}.|Readers could first buy {0} in {1}.",
            "When was {0} published?|In which year could readers first buy {0}?",
            "1896|1905|1913|1922|1931|1940|1957|1966|1974|1983",
        ),
        _told(
            "{0} is set in {1}.|The story of {0} takes place in {1}.",
            "Where is {0} set?|Where does the story of {0} take place?",
            "a lighthouse|Patagonia|a monastery|Shanghai|a coal mine|Naples|an asylum|Alaska|a hotel|Zanzibar",
        ),
        _told(
            "The heroine of {0} is {1}.|In {0} everything turns around {1}.",
            "Who is the heroine of {0}?|Around whom does everything turn in {0}?",
            "a widow|a thief|a schoolteacher|an heiress|a nun|a smuggler|a detective|a seamstress|an actress",
        ),
        _told(
            "Critics praised {0} for its {1}.|What reviewers liked about {0} was its {1}.",
            "What did critics praise {0} for?|What did reviewers like about {0}?",
            "dialogue|irony|restraint|landscapes|humour|suspense|honesty|plot|rhythm|brevity",
        ),
    )
    return Kind(names, attributes)


def _villages() -> tuple[str, ...]:
    first = _split("Kar|Bel|Ost|Wen|Lor|Mid|Tar|Hol|Fen|Gris")
    return tuple(f"{start}{end}" for start in first for end in ("mark", "combe", "vik", "dorf", "ley"))


def _of_villages() -> tuple[Attribute, ...]:
    return (
        _told(
            "{0} lies beside the river {1}.|The water that flows past {0} is the {1}.",
            "Which river does {0} lie beside?|What is the water called that flows past {0}?",
            "Lutz|Arne|Sava|Brede|Tolme|Ister|Wye|Ond|Nore|Calder",
        ),
        _told(
            "{0} is known for its {1}.|People travel to {0} to see its {1}.",
            "What is {0} known for?|What do people travel to {0} to see?",
            "bell tower|horse fair|salt baths|lace museum|cherry trees|caves|tapestries|wind mills|dolmen",
        ),
        _told(
            "The mayor of {0} is {1}.|{1} runs the town hall of {0}.",
            "Who is the mayor of {0}?|Who runs the town hall of {0}?",
            "Agnes Berg|Carl Dahl|Elena Fuchs|Georg Haas|Ida Jung|Karin Lenz|Max Naumann|Olga Petri|Rolf Simon",
        ),
        _told(
            "{0} burned down in {1}.|Flames destroyed {0} in {1}.",
            "When did {0} burn down?|In which year was {0} destroyed by flames?",
            "1532|1588|1611|1649|1690|1723|1757|1794|1816|1843",
        ),
        _told(
            "{0} has {1} inhabitants.|The census counted {1} souls in {0}.",
            "How many inhabitants does {0} have?|How many souls did the census count in {0}?",
            "410|655|880|1,120|1,475|1,830|2,260|2,715|3,050|3,390",
        ),
    )


def _bridges() -> tuple[str, ...]:
    first = _split("Miller's|Saint Anne's|the Old|Abbot's|Raven|Copper|Weaver's|Lantern|Bishop's|Three-Arch")
    return tuple(f"{name} {kind}" for name in first for kind in ("Bridge", "Viaduct", "Footbridge"))


def _of_bridges() -> tuple[Attribute, ...]:
    return (
        _told(
            "{0} was designed by {1}.|The architect behind {0} was {1}.",
            "Who designed {0}?|Who was the architect behind {0}?",
            "Otto Reuter|Pia Salvi|Quentin Ross|Rosa Thal|Sven Ulm|Tilda Varga|Urs Weiss|Vera Young|Willem Zorn",
        ),
        _told(
            "{0} is made of {1}.|The builders of {0} used {1}.",
            "What is {0} made of?|What did the builders of {0} use?",
            "granite|cast iron|oak|brick|concrete|limestone|steel|sandstone|bamboo",
        ),
        _told(
            "{0} cost {1} crowns.|{1} crowns were paid for {0}.",
            "How much did {0} cost?|What sum was paid for {0}?",
            "9,000|12,500|18,000|24,500|31,000|47,000|58,500|66,000|73,500",
        ),
        _told(
            "{0} was closed after {1}.|Since {1} nobody may cross {0}.",
            "Why was {0} closed?|Since what happened may nobody cross {0}?",
            "the flood|the landslide|the earthquake|the accident|the war|the robbery|the fire|the frost|the strike",
        ),
        _told(
            "{0} was opened by {1}.|The ribbon at {0} was cut by {1}.",
            "Who opened {0}?|Who cut the ribbon at {0}?",
            "a bishop|a general|the queen|a senator|a schoolgirl|an opera singer|the governor|a boxer|a duke",
        ),
    )


def _told(facts: str, questions: str, values: str) -> Attribute:
    first, second = _split(facts)
    one, two = _split(questions)
    return Attribute((first, second), (one, two), _split(values))


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))
