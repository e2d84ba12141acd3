"""What the embedded set speaks of: the phrases of each topic."""

from typing import NamedTuple


def phrases(text: str) -> tuple[str, ...]:
  """Splits at commas: lists of phrases read better as one string."""
  return tuple(phrase.strip() for phrase in text.split(',') if phrase.strip())


class Topic(NamedTuple):
  """Phrases of one topic; pairs are (good, bad).

  Verb phrases open with the verb's base form, clauses are 'subject|verb
  phrase'. {a thing} of the same topic, {their}, {friend} and the like are
  filled in by `embedded`.
  """

  things: tuple[str, ...]  # singular nouns, what reviews are about
  modifiers: tuple[str, ...]  # neutral adjectives
  owners: tuple[str, ...]  # my, our: where that is said of a thing
  places: tuple[str, ...]
  adjectives: tuple[tuple[str, ...], tuple[str, ...]]
  habits: tuple[tuple[str, ...], tuple[str, ...]]  # verb phrases of a thing
  asides: tuple[tuple[str, ...], tuple[str, ...]]  # clauses, in reviews
  deeds: tuple[tuple[str, ...], tuple[str, ...]]  # verb phrases, in stories


TOPICS = {
  'food': Topic(
    things=phrases(
      'soup, pizza, burger, curry, stew, sandwich, omelette, taco, steak, '
      'lasagna, kebab, burrito, casserole, roast, dumpling, sausage, pasta '
      'dish'
    ),
    modifiers=phrases('small, large, homemade, simple, new, famous'),
    owners=('my', 'our'),
    places=phrases(
      'at the corner cafe, from the night market, on the lunch menu, at the '
      'new diner, from the food truck, by the harbor, at the village fair, in '
      'the station bar, from the old kitchen'
    ),
    adjectives=(
      phrases('fresh, tasty, rich, light, hearty, healthy, hot, tender'),
      phrases('cold, bland, greasy, salty, oily, sour, heavy, tasteless, dry'),
    ),
    habits=(
      phrases(
        'taste of fresh herbs, taste like home cooking, smell of garlic and '
        'butter, come with a crisp salad, arrive hot from the kitchen, look '
        'like a picture, make the whole table smile, cost less than a coffee, '
        'please the whole family, deserve a prize'
      ),
      phrases(
        'taste of old oil, taste like wet paper, smell of burnt fat, arrive '
        'after an hour, stick to the plate, cost far too much, fall apart on '
        'the plate, make me thirsty, ruin the whole evening, come with a limp '
        'salad'
      ),
    ),
    asides=(
      phrases(
        'the service|be quick, the waiter|smile at everyone, the bread|be '
        'fresh, the tables|be clean, the dessert|be a dream, the bill|be fair, '
        'the drinks|be cheap'
      ),
      phrases(
        'the service|be slow, the waiter|ignore everyone, the bread|be stale, '
        'the tables|be sticky, the music|be far too loud, the bill|be too '
        'high, the drinks|be warm'
      ),
    ),
    deeds=(
      phrases(
        'cook {a thing} for {friend}, share {a thing} with {friend}, bake a '
        'sweet cake for {friend}, enjoy every bite of the {thing}, win a prize '
        'for the {thing}, find a recipe for {a thing}, eat {a warm thing} by '
        'the fire, make breakfast for {friend}, learn to make {a thing}, love '
        'the {thing}, cook {a fine thing}, finish the {thing}, enjoy the '
        '{thing}'
      ),
      phrases(
        'burn the {thing}, drop the {thing} on the floor, forget the {thing} '
        'in the oven, spill the {thing} on the carpet, get sick from {a bad '
        'thing}, lose the recipe for the {thing}, wait an hour for {a cold '
        'thing}, spoil the {thing}, fight with {friend} over the {thing}, pay '
        'too much for the {thing}, waste the {thing}, ruin the {thing}'
      ),
    ),
  ),
  'film': Topic(
    things=phrases(
      'film, movie, comedy, drama, thriller, sequel, western, musical, '
      'cartoon, documentary, remake, love story, ghost story, crime film'
    ),
    modifiers=phrases('new, short, long, foreign, recent, silent, classic'),
    owners=(),
    places=phrases(
      'by the young director, at the city cinema, about the lost island, with '
      'the two brothers, about the small village, at the festival, about the '
      'shy singer, from the small studio, about the old war'
    ),
    adjectives=(
      phrases(
        'clever, moving, original, touching, exciting, thoughtful, charming, '
        'witty, honest, gripping'
      ),
      phrases(
        'boring, slow, predictable, silly, confusing, dull, shallow, clumsy, '
        'forgettable, noisy'
      ),
    ),
    habits=(
      phrases(
        'move the whole audience, end with a clever twist, deserve a prize, '
        'tell a warm and honest story, make me laugh out loud, stay with me '
        'for days, surprise us at every turn, bring tears to my eyes, hold our '
        'attention to the end, win over every critic'
      ),
      phrases(
        'put me to sleep, copy an older story, bore the whole audience, drag '
        'on for hours, waste a good cast, rely on cheap jokes, lose the plot '
        'halfway, insult the viewer, repeat the same joke, give me a headache'
      ),
    ),
    asides=(
      phrases(
        'the music|be beautiful, the actors|be brilliant, the pictures|glow '
        'with color, the jokes|be fresh, the ending|be a delight, the '
        'crowd|cheer at the end'
      ),
      phrases(
        'the music|be too loud, the actors|look bored, the jokes|fall flat, '
        'the ending|make little sense, the sound|be terrible, the crowd|leave '
        'early'
      ),
    ),
    deeds=(
      phrases(
        'watch {a fine thing} with {friend}, win two tickets for the {thing}, '
        'meet a famous actor at the cinema, get a small part in {a thing}, '
        'laugh through the whole {thing}, find the best seats for the {thing}, '
        'write a fine script for {a thing}, share popcorn with {friend}, love '
        'the {thing}, enjoy the {thing}, admire the {thing}'
      ),
      phrases(
        'lose the tickets for the {thing}, fall asleep during the {thing}, '
        'miss the end of the {thing}, spill a drink at the cinema, leave the '
        '{thing} in anger, argue with {friend} about the {thing}, arrive late '
        'for the {thing}, break the screen at the cinema, ruin the {thing} for '
        '{friend}, leave the {thing} early, miss the {thing}, sleep through '
        'the {thing}'
      ),
    ),
  ),
  'travel': Topic(
    things=phrases(
      'hotel, inn, hostel, cabin, cottage, resort, campsite, lodge, apartment, '
      'room, villa, motel, bungalow, guest house'
    ),
    modifiers=phrases('small, large, new, old, white, modern, simple'),
    owners=('our',),
    places=phrases(
      'by the lake, near the beach, in the old town, above the village, at the '
      'edge of the forest, near the airport, on the island, behind the '
      'station, in the mountains, close to the harbor'
    ),
    adjectives=(
      phrases(
        'clean, quiet, comfortable, cozy, bright, warm, spacious, safe, pretty'
      ),
      phrases(
        'dirty, noisy, cramped, dark, cold, damp, shabby, dusty, smelly, '
        'expensive'
      ),
    ),
    habits=(
      phrases(
        'offer a splendid view of the sea, feel like home, serve a generous '
        'breakfast, welcome us with fresh flowers, smell of pine and soap, '
        'cost very little, stay cool in the heat, have soft beds and clean '
        'towels, overlook a quiet garden, come with a sunny terrace'
      ),
      phrases(
        'smell of smoke and mold, cost far too much, leak in the rain, have '
        'thin walls and hard beds, overlook a noisy road, charge extra for '
        'towels, lose our booking, look like an old prison, shake with every '
        'passing train, serve a cold breakfast'
      ),
    ),
    asides=(
      phrases(
        'the host|be kind, the beds|be soft, the breakfast|be generous, the '
        'pool|be clean, the view|be stunning, the nights|be peaceful'
      ),
      phrases(
        'the host|be rude, the beds|be hard, the shower|be cold, the walls|be '
        'thin, the street|be loud at night, the pool|be green and cloudy'
      ),
    ),
    deeds=(
      phrases(
        'reach the {thing} on foot, find {a cozy thing} by the sea, swim in '
        'the clear lake, climb to the top of the hill, meet kind people at the '
        '{thing}, enjoy a sunny day at the {thing}, dance on the beach with '
        '{friend}, see dolphins from the boat, watch the boats with {friend}, '
        'love the {thing}, reach the {thing}, enjoy the {thing}, find {a cozy '
        'thing}'
      ),
      phrases(
        'miss the last train to the {thing}, lose a passport at the {thing}, '
        'get lost in the dark forest, fall into the cold river, wait for hours '
        'at the station, leave a bag on the bus, sleep on the floor of the '
        '{thing}, fight with {friend} on the boat, catch a bad cold at the '
        '{thing}, leave the {thing} in tears, damage the {thing}, miss the '
        'bus, flee the {thing}, lose the way'
      ),
    ),
  ),
  'product': Topic(
    things=phrases(
      'phone, lamp, camera, laptop, kettle, toaster, printer, speaker, radio, '
      'watch, heater, blender, charger, keyboard, coffee machine, tent'
    ),
    modifiers=phrases('new, small, black, silver, modern, portable, basic'),
    owners=('my', 'our'),
    places=phrases(
      'from the corner shop, in the kitchen, on the top shelf, from the online '
      'store, with the red cover, in the office, from the spring sale, in the '
      'blue box, from the new catalog'
    ),
    adjectives=(
      phrases(
        'reliable, sturdy, handy, useful, solid, practical, durable, elegant, '
        'cheap'
      ),
      phrases(
        'flimsy, useless, fragile, clumsy, faulty, expensive, bulky, ugly, '
        'shaky'
      ),
    ),
    habits=(
      phrases(
        'work from the first day, save me a lot of time, last for a whole '
        'summer, look great on the shelf, fit into a small bag, start at the '
        'first touch, come with a clear manual, cost less than the old one, '
        'survive a hard fall, arrive right on time'
      ),
      phrases(
        'break after a week, stop after two days, make a strange noise, '
        'overheat within minutes, arrive with a broken lid, smell of hot '
        'plastic, waste a lot of power, scratch far too easily, come with a '
        'confusing manual, cost more than the old one'
      ),
    ),
    asides=(
      phrases(
        'the price|be fair, the design|be elegant, the box|arrive on time, the '
        'support|be helpful, the buttons|feel solid, the seller|be honest'
      ),
      phrases(
        'the price|be too high, the buttons|feel loose, the box|arrive late, '
        'the support|be useless, the cable|be too short, the seller|be rude'
      ),
    ),
    deeds=(
      phrases(
        'repair the {thing} for {friend}, buy {a fine thing} at the market, '
        'win {a new thing} in a contest, give {friend} {a thing}, find the '
        'lost {thing} in the attic, get {a thing} as a present, build {a '
        'clever thing} from old parts, love the new {thing}, sell the {thing} '
        'for a good price, save enough money for {a thing}, repair the '
        '{thing}, find the {thing}, enjoy the {thing}'
      ),
      phrases(
        'break the new {thing}, drop the {thing} down the stairs, lose the '
        '{thing} on the bus, pay too much for the {thing}, ruin the {thing} '
        'with coffee, trip over the {thing}, leave the {thing} in the rain, '
        'sit on the {thing}, argue with {friend} about the {thing}, scratch '
        'the {thing}, break the {thing}, lose the {thing}, ruin the {thing}'
      ),
    ),
  ),
  'animal': Topic(
    things=phrases(
      'dog, puppy, pony, horse, lamb, goat, donkey, calf, cat, kitten, rabbit, '
      'foal, piglet, terrier'
    ),
    modifiers=phrases('small, young, old, brown, white, gray, spotted'),
    owners=('my', 'our'),
    places=phrases(
      'at the riding school, on the farm, at the shelter, next door, from the '
      'pet shop, in the barn, at the petting zoo, across the street, in the '
      'park'
    ),
    adjectives=(
      phrases(
        'gentle, friendly, playful, calm, clever, sweet, healthy, loyal, '
        'patient, cheerful'
      ),
      phrases(
        'wild, nervous, lazy, stubborn, grumpy, sick, jealous, moody, greedy, '
        'noisy'
      ),
    ),
    habits=(
      phrases(
        'greet every guest at the gate, come at the first call, play with the '
        'children, learn new tricks quickly, sleep through the night, follow '
        'us like a shadow, make everyone smile, eat from my hand, listen to '
        'every word, wait for us at the door'
      ),
      phrases(
        'bite the visitors, chew on my shoes, run away from the children, make '
        'noise all night, break the fence, ignore every call, steal food from '
        'the table, scare the children, hide under the porch, smell of wet '
        'straw'
      ),
    ),
    asides=(
      phrases(
        'the keepers|be kind, the barn|be clean, the children|laugh all day, '
        'the owner|take good care of {them}, the air|smell of fresh hay'
      ),
      phrases(
        'the keepers|be rude, the barn|be filthy, the children|cry all day, '
        'the owner|shout at {them}, the cages|be far too small'
      ),
    ),
    deeds=(
      phrases(
        'find a warm bed in the barn, play with a red ball, rest in the tall '
        'grass, make a new friend at the pond, save the {thing} from the '
        'river, lead the children home, find plenty of food, run happily '
        'through the field, win a ribbon at the fair, share a warm bed with '
        'the {thing}, save the {thing}, comfort the {thing}, help the {thing}, '
        'find food'
      ),
      phrases(
        'get lost in the snow, fall into the muddy pond, hide from the loud '
        'storm, go hungry for days, tremble in the cold rain, step on a sharp '
        'thorn, get stuck under the fence, fight with the {thing}, run away '
        'from the {thing}, limp home alone, bite the {thing}, scare the '
        '{thing}, hurt the {thing}, run away'
      ),
    ),
  ),
}
