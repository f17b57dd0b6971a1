"""How many tokens a request has taken, by what its Record knows when the response is over.

What a provider tells counts. Where it tells nothing, or the answer broke off before it could (a client that goes away a
moment before the end would never pay), the size of question and answer has to do.
"""

from typing import Final

from ..record import Record

INPUT: Final = "gen_ai.usage.input_tokens"
OUTPUT: Final = "gen_ai.usage.output_tokens"
FIRST_TOKEN: Final = "agw.ai.time_to_first_token"  # of streams alone
BYTES_PER_TOKEN: Final = 4  # of text, as providers' own rules of thumb have it
BYTES_PER_EVENT: Final = 200  # of a stream, in which every token comes in an event of its own
MOST: Final = 2**40  # whatever an upstream says


def taken(record: Record, question: int) -> int:
    """Tokens. `question`: bytes of the body that was asked with."""
    asked, answered = _told(record, INPUT), _told(record, OUTPUT)
    told = asked is not None or answered is not None
    if (record.complete and told) or record.refusal is not None or (record.status or 200) >= 400:
        return min((asked or 0) + (answered or 0), MOST)
    events = FIRST_TOKEN in record.details or record.view.type == "websocket"
    untold = (record.bytes_sent - record.bytes_told) // (BYTES_PER_EVENT if events else BYTES_PER_TOKEN)
    asked = question // BYTES_PER_TOKEN if asked is None else asked
    answered = answered or 0
    return min(asked + (answered + untold if record.bytes_told else max(answered, untold)), MOST)


def _told(record: Record, name: str) -> int | None:
    value = record.details.get(name)
    return value if isinstance(value, int) else None
