"""Whether a bundle and the settings that serve it mean the same declared features."""

from __future__ import annotations

from adbeam.declared.encoder import FeatureEncoder
from adbeam.errors import UserError
from adbeam.targeting.features import Features


class OtherFeatures(UserError):
    """A bundle whose model is told other features than requests may tell: no other bundle mends the settings."""


def check_told(told: FeatureEncoder | None, version: str, features: Features) -> None:
    """Raise OtherFeatures where the bundle `version` and the declared `features` disagree about what the model is told:
    a feature that only one of them knows, or knows as another kind or of another source."""
    fitted = {one.name: (one.kind, one.source) for one in told.features} if told else {}
    declared = {name: (one.kind, one.source) for name, one in features.items() if one.model}
    for name in [*fitted, *declared]:
        theirs, ours = fitted.get(name), declared.get(name)
        if theirs == ours:
            continue
        if ours is None:
            said = f"the model of bundle {version} is told it ({_spelled(theirs)}), and it is not declared so here"
            remedy = "declare it as the jobs' YAML does, with model: true"
        elif theirs is None:
            said = f"the model of bundle {version} is not told it"
            remedy = "set model: false, or prepare, train and export with it"
        else:
            said = f"the model of bundle {version} is told it as {_spelled(theirs)}"
            remedy = "declare it as the jobs' YAML does, or prepare, train and export again"
        raise OtherFeatures(said, field=f"features.{name}", value=ours and _spelled(ours), remedy=remedy)


def _spelled(meant: tuple[str, str] | None) -> str:
    return "nothing" if meant is None else f"kind: {meant[0]}, source: {meant[1]}"
