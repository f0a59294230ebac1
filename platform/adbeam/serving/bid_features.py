"""Which places of a bid request tell which declared features, and reading them.

A place that cannot be read tells nothing and is counted; of a list only the entries that cannot be read are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, StringConstraints

from adbeam.recorder import Recorder
from adbeam.targeting.features import LIST_VALUES, MOST_NUMBER, FeatureConfig, Features, category

Place = Annotated[str, StringConstraints(pattern=r"^(app|device|site|user)(\.[a-z][a-z0-9_]*){1,6}$", max_length=128)]
Places = Mapping[str, tuple[str, ...]]
GivenPlaces = Mapping[str, str | tuple[str, ...] | None]
DEFAULT_PLACES: Places = {
    "os": ("device.os",),
    "devicetype": ("device.devicetype",),
    "language": ("device.language",),
    "country": ("device.geo.country",),
    "region": ("device.geo.region",),
    "age": ("user.yob",),
    "gender": ("user.gender",),
    "content_category": ("site.cat", "app.cat"),
}
"""Read where features of these names are declared; of several places the first that says anything counts."""
YEAR_OF_BIRTH = "user.yob"
"""Read as an age: the years since then."""
MOST_AGE = 130


def places_of(features: Features, given: GivenPlaces) -> Places:
    """Where the declared features stand: the default places, but `given` ones win and None takes one out."""
    told = {name: (places,) if isinstance(places, str) else places for name, places in given.items()}
    places = {**DEFAULT_PLACES, **told}
    return {name: found for name in features if (found := places.get(name))}


def parts_of(places: Places) -> frozenset[str]:
    """The objects of a bid request that places lie in."""
    return frozenset(place.partition(".")[0] for each in places.values() for place in each)


def features_of_bid(
    request: Any, features: Features, places: Places, metrics: Recorder, year: int | None = None, private: bool = False
) -> dict[str, dict[str, Any]]:
    """What a bid request tells, as `context` and `user` of an AdRequest; nothing of a user who is `private`.

    What cannot be read is missing, and counted. `year` is the present one.
    """
    found: dict[str, dict[str, Any]] = {"context": {}}
    for name, feature in features.items():
        of_user = feature.source == "user"
        if of_user:
            found.setdefault("user", {})
        elif feature.source != "request":
            continue
        for place in places.get(name, ()):
            path = tuple(place.split("."))
            if private and (of_user or path[0] == "user"):
                continue
            value = _inside(request, path)
            if value in (None, ""):
                continue
            read = _read(place, value, feature, metrics, year)
            if read is not None:
                found["user" if of_user else "context"][name] = read
            break
    return found


def _read(place: str, value: Any, feature: FeatureConfig, metrics: Recorder, year: int | None) -> Any:
    """The value as its feature has it; None where it cannot be read."""

    def unread() -> None:
        metrics.add("adbeam_bid_fields_unread", field=place)

    if feature.kind == "list":
        return _words(value, unread)
    try:
        if place == YEAR_OF_BIRTH:
            value = _age(value, year or datetime.now(UTC).year)
        return category(value) if feature.kind == "category" else _number(value)
    except (TypeError, ValueError, OverflowError):
        unread()
        return None


def _words(value: Any, unread: Callable[[], None]) -> list[str] | None:
    found: list[str] = []
    for entry in value if isinstance(value, list) else [value]:
        try:
            word = category(entry)
        except ValueError:
            unread()
            continue
        if word in found:
            continue
        if len(found) == LIST_VALUES:
            unread()
            break
        found.append(word)
    return found or None


def _number(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not abs(number) <= MOST_NUMBER:
        raise ValueError(value)
    return number


def _age(value: Any, year: int) -> int:
    born = _number(value)
    if born != int(born) or not 0 <= year - born <= MOST_AGE:
        raise ValueError(value)
    return year - int(born)


def _inside(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if isinstance(value, BaseModel):
            value = getattr(value, name, None)
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value
