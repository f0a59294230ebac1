"""Names of advertisers and categories as block lists write them: which name means which.

Case and outer blanks do not matter. A domain is the same with `www.`, a scheme, a port or a path, and blocks the
domains below it; a category of the IAB's first taxonomy blocks those below it.
"""

from __future__ import annotations

import re
from functools import lru_cache

_DOMAIN = re.compile(r"(?:[a-z][a-z0-9+.-]*://)?(?:[^/?#@\s]*@)?([^/?#@:\s]+\.[^/?#@:\s]+?)\.?(?::\d+)?(?:[/?#]\S*)?")
_IAB = re.compile(r"iab\d+(?:-\d+)*")
_KEPT = 1 << 14
"""Names of ads whose forms are kept."""


def folded(name: str) -> str:
    """A name without its case and its outer blanks."""
    return name.strip().casefold()


def advertiser(name: str) -> str:
    """The one form of a name: of a domain `example.com`, also where `https://WWW.Example.com/page` stands."""
    text = folded(name)
    found = _DOMAIN.fullmatch(text)
    if found is None:
        return text
    domain = found[1].removeprefix("www.")
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode()
    except UnicodeError:
        return domain


@lru_cache(_KEPT)
def advertiser_names(name: str) -> tuple[str, ...]:
    """The forms that mean an advertiser: its own, and of a domain those above: `a.example.com`, `example.com`."""
    own = advertiser(name)
    if "." not in own or " " in own:
        return (own,)
    labels = own.split(".")
    return tuple(".".join(labels[place:]) for place in range(len(labels) - 1))


@lru_cache(_KEPT)
def category_names(name: str) -> tuple[str, ...]:
    """The forms that mean a category: its own, and of `IAB1-2` also `iab1`."""
    own = folded(name)
    if "-" not in own or not _IAB.fullmatch(own):
        return (own,)
    parts = own.split("-")
    return tuple("-".join(parts[:end]) for end in range(len(parts), 0, -1))
