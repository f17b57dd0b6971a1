"""base64url without padding (RFC 7515 §2), in its one canonical spelling."""

from binascii import a2b_base64
from typing import Final

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_PADDING: Final = (b"", b"", b"==", b"=")
# The last characters that leave no bit over, by the number of characters beyond a multiple of four: any other would
# spell the same bytes a second time.
_LAST: Final = (_ALPHABET, b"", _ALPHABET[::16], _ALPHABET[::4])


def decode(text: bytes) -> bytes:
    """The bytes that `text` stands for; its alphabet has been checked already. Raises `ValueError` for a spelling that
    encoding those bytes would not give."""
    extra = len(text) % 4
    if extra and text[-1] not in _LAST[extra]:
        raise ValueError("not canonical base64url")
    return a2b_base64(text.translate(_TO_STANDARD) + _PADDING[extra])
