"""Who asks and for whom: ids of the user from declared sources, and the chain of sellers. Each stands in one place
since OpenRTB 2.6 and in `ext` before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adbeam.identity.numbers import id_of_number
from adbeam.identity.people import USER_ID_READ, is_nobody
from adbeam.serving.openrtb.values import Unread

EIDS_READ, UIDS_READ, NODES_READ = 100, 10, 100
"""Sources of one user, ids of one source, and sellers of one chain that are read."""


def ids_of(user: Any, sources: Mapping[str, str], unread: Unread) -> Iterator[str]:
    """The user's ids from the declared sources, in the order of those."""
    if not sources:
        return
    found: dict[str, str] = {}
    listed = [each for held in _both(user, "eids", list, unread, "user.eids") for each in held]
    for each in listed[:EIDS_READ]:
        source = each.get("source") if isinstance(each, dict) else None
        if not isinstance(source, str):
            unread("user.eids")
        elif source in sources and source not in found and (named := _id(each.get("uids"), unread)) is not None:
            found[source] = sources[source] + named
    if len(listed) > EIDS_READ:
        unread("user.eids")
    yield from (found[source] for source in sources if source in found)


def is_complete(source: Any, unread: Unread) -> bool:
    """Whether a request names all its sellers."""
    chain = next(iter(_both(source, "schain", dict, unread, "source.schain")), None)
    if chain is None:
        return False
    nodes = chain.get("nodes")
    if not isinstance(nodes, list) or not 0 < len(nodes) <= NODES_READ:
        unread("source.schain.nodes")
        return False
    if not all(isinstance(node, dict) and node.get("asi") and node.get("sid") for node in nodes):
        unread("source.schain.nodes")
        return False
    return chain.get("complete") in (1, "1", True)


def _both(value: Any, name: str, kind: type, unread: Unread, place: str) -> list[Any]:
    """`name` of an object, and of its `ext`, where it is of this kind."""
    found = []
    for held in (_inside(value, name), _inside(_inside(value, "ext"), name)):
        if isinstance(held, kind):
            found.append(held)
        elif held is not None:
            unread(place)
    return found


def _inside(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def _id(uids: Any, unread: Unread) -> str | None:
    for each in uids[:UIDS_READ] if isinstance(uids, list) else []:
        value = each.get("id") if isinstance(each, dict) else None
        text = value if isinstance(value, str) else id_of_number(value)
        if text is not None and len(text) <= USER_ID_READ and not is_nobody(text):
            return text
        unread("user.eids.uids")
    return None
