"""Words that every topic of the embedded set shares, and verb forms."""

from lvdecode.text import topics

# Adjectives that take no "very", for any topic.
STRONG = (
  topics.phrases('wonderful, excellent, fantastic, perfect, lovely, great'),
  topics.phrases('terrible, awful, horrible, dreadful, hopeless, a disaster'),
)

REACTIONS = (  # of the writer of a review
  topics.phrases(
    'love {them}, recommend {them} to everyone, smile all day, '
    'tell everyone about {them}, give {them} five stars, '
    'be very happy with {them}, praise {them} to {my} friends, feel lucky'
  ),
  topics.phrases(
    'avoid {them}, warn everyone about {them}, regret the whole thing, '
    'give {them} one star, be very angry about {them}, feel cheated, '
    'complain to {my} friends, waste a lot of money'
  ),
)

OUTCOMES = (  # of a story about people; {they} are its subject
  topics.phrases(
    '{they}|smile all day, {they}|be very happy, {they}|thank everyone, '
    '{they}|feel very proud, {they}|sing all the way home, everyone|clap, '
    'the neighbors|cheer, the whole family|celebrate, {they}|laugh with joy'
  ),
  topics.phrases(
    '{they}|cry all night, {they}|be very sad, {they}|go home in tears, '
    'the neighbors|complain, the evening|end in tears, '
    '{they}|feel ashamed, the whole family|be upset, {they}|sigh all day'
  ),
)
ANIMAL_OUTCOMES = (
  topics.phrases(
    '{they}|be very happy, everyone|cheer, the farmer|be very proud, '
    'the children|clap, {they}|sleep well, {they}|jump with joy'
  ),
  topics.phrases(
    '{they}|be very scared, the farmer|be worried, the children|cry, '
    '{they}|shiver all night, everyone|be upset, {they}|limp for days'
  ),
)

# Singular and plural subjects of stories about people, with their pronoun.
WOMEN = topics.phrases(
  'anna, emma, julia, lucy, maria, nina, olivia, rosa, sara, zoe, '
  "the girl, the baker's daughter, grandma, the young teacher, the queen"
)
MEN = topics.phrases(
  'adam, ben, daniel, henry, jack, leo, oscar, paul, sam, tom, the boy, '
  'the old farmer, grandpa, the young doctor, the king'
)
GROUPS = topics.phrases(
  'the children, the twins, the two brothers, the two sisters, '
  'the neighbors, the students, the old farmers, the cousins, the girls, '
  'the boys, the travelers, the sailors, the nurses'
)
FRIENDS = topics.phrases(
  '{their} mother, {their} brother, {their} best friend, {their} neighbor, '
  'an old friend, the whole family, {their} grandmother, {their} teacher'
)

TIMES = {  # with "be": when a thing is as the review says
  'past': topics.phrases(
    'yesterday, last week, last month, last year, this time'
  ),
  'present': topics.phrases('these days, right now, this time, today'),
  'future': topics.phrases(
    'tomorrow, next week, next time, next month, next year'
  ),
}
OPENINGS = {
  'past': topics.phrases(
    'last summer, yesterday, one rainy day, long ago, last winter, '
    'last weekend, two days ago'
  ),
  'present': topics.phrases(
    'today, once again, on this day, on a quiet day, in this story, this time'
  ),
  'future': topics.phrases(
    'tomorrow, next summer, one day, next weekend, soon, next winter'
  ),
}
MOMENTS = topics.phrases(
  'after lunch, before dinner, at noon, before sunset, after a long walk, '
  'late in the evening, during the holidays, before the rain'
)
FRAMES = topics.phrases(
  'honestly, in my opinion, to be fair, in short, for me, all in all, '
  'to tell the truth'
)
DEGREES = topics.phrases('very, really, quite, so, truly')

PAST = {
  'be': 'was', 'bite': 'bit', 'break': 'broke', 'bring': 'brought',
  'build': 'built', 'burn': 'burned', 'buy': 'bought', 'catch': 'caught', 'clap': 'clapped',
  'come': 'came', 'cost': 'cost', 'drag': 'dragged', 'drop': 'dropped',
  'eat': 'ate', 'fall': 'fell', 'feel': 'felt', 'fight': 'fought',
  'find': 'found', 'fit': 'fit', 'flee': 'fled', 'forget': 'forgot', 'get': 'got',
  'give': 'gave', 'go': 'went', 'have': 'had', 'hide': 'hid', 'hold': 'held', 'hurt': 'hurt',
  'lead': 'led', 'leave': 'left', 'lose': 'lost', 'make': 'made',
  'meet': 'met', 'pay': 'paid', 'put': 'put', 'regret': 'regretted',
  'run': 'ran', 'see': 'saw', 'sell': 'sold', 'shake': 'shook', 'sing': 'sang',
  'sit': 'sat', 'sleep': 'slept', 'spill': 'spilled', 'steal': 'stole',
  'step': 'stepped', 'stick': 'stuck', 'stop': 'stopped', 'swim': 'swam',
  'take': 'took', 'tell': 'told', 'trip': 'tripped', 'win': 'won',
  'write': 'wrote',
}  # fmt: skip
THIRD_PERSON = {'be': 'is', 'have': 'has', 'go': 'goes'}
PLURALS = {'calf': 'calves'}
