"""A few lines of a play, for tests that need roles."""

SCENE = """\
FIRST FISHER:
The nets are torn again, and no wind stirs the bay.
What shall we bring the market, brother, on a windless day?

SECOND FISHER:
Patience. The tide that took the morning brings the evening in.
Mend while you wait, and let the gulls complain of what is thin.

MILLER:
Good day to both. The wheel stands still; my stones have naught to grind.
I came to ask for fish on trust, and thought to find you kind.

FIRST FISHER:
On trust! We have but trust to eat, and that is lean enough.
Sit down, and hold this end of rope. The work is dull and rough.

CHILD:
A sail!

MILLER:
The child sees what we miss who only count what we have lost.
Now quick, the boat, before the wind goes by and we are crossed.

SECOND FISHER:
I told you so. The tide, the tide! Hold fast, and haul away,
and there shall be both bread and fish before the end of day.
"""
