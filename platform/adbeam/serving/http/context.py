"""Declared features as they cross the border: `context` and `user` of a request, and profiles that are posted. Each
value is checked on its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    create_model,
)
from pydantic_core import PydanticCustomError

from adbeam.identity.people import USER_ID_READ
from adbeam.serving.privacy import PRIVACY, PrivacySignals
from adbeam.targeting.features import LIST_VALUES, MOST_NUMBER, Features, category
from adbeam.targeting.told import Context, Value


def _category(value: Any) -> str:
    try:
        return category(value)
    except ValueError as error:
        raise PydanticCustomError("category", str(error)) from None


Category = Annotated[Any, AfterValidator(_category), WithJsonSchema({"type": ["string", "integer"]})]
Number = Annotated[float, Field(ge=-MOST_NUMBER, le=MOST_NUMBER, allow_inf_nan=False)]
KINDS: Mapping[str, Any] = {
    "category": Category,
    "number": Number,
    "list": Annotated[list[Category], Field(max_length=LIST_VALUES)],
}
DESCRIPTION = "Declared features that targeting rules ask for (docs/targeting.md)."
USER_DESCRIPTION = "Declared features of `source: user`; they win over the profile that is kept of the user."
UserId = Annotated[str, StringConstraints(max_length=USER_ID_READ)]
"""A user id as clients send it; adbeam.identity.people.known_user says what is made of it."""
_FIELD = "feature_{}"
"""Fields are named so that no feature hides a method of the model; clients see the aliases."""


class _Told(BaseModel):
    """Features by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    names: ClassVar[tuple[str, ...]] = ()
    """The declared features, rising."""

    def told(self) -> Context:
        """The features that have a value, in the order of their names."""
        if not self.model_fields_set:
            return ()
        given = [(name, getattr(self, _FIELD.format(name))) for name in self.names]
        return tuple((name, _value(value)) for name, value in given if value not in (None, []))

    def without(self, told: Context) -> tuple[str, ...]:
        """The names of the features that are not among `told`."""
        if not told:
            return self.names
        given = dict(told)
        return tuple(name for name in self.names if name not in given)


class RequestContext(_Told):
    """What a request tells of whom it is for: declared features by name; null is as absent."""


class UserProfile(_Told):
    """What is known of a user: declared features of `source: user` by name; null is as absent."""


Model = TypeVar("Model", bound=_Told)


class PostedUser(BaseModel):
    """A user and the whole of what is to be kept of them; an empty profile takes out what is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    user_id: UserId = Field(description="Nobody and long ids as in events.")
    profile: UserProfile = Field(description="In place of the profile that is kept.")
    privacy: PrivacySignals | None = Field(None, description=PRIVACY)


class UserBatch(BaseModel):
    """Users whose profiles are to be kept."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    users: list[PostedUser] = Field(min_length=1)


def context_model(features: Features) -> type[RequestContext]:
    """RequestContext with these features."""
    return _with(RequestContext, features)


def profile_model(features: Features) -> type[UserProfile]:
    """UserProfile with these features."""
    return _with(UserProfile, features)


def _with(base: type[Model], features: Features) -> type[Model]:
    fields: dict[str, Any] = {
        _FIELD.format(name): (KINDS[feature.kind] | None, Field(None, alias=name, description=f"A {feature.kind}."))
        for name, feature in features.items()
    }
    if not fields:
        return base
    model = create_model(base.__name__, __base__=base, **fields)
    model.names = tuple(sorted(features))
    return model


def told_field(model: type[_Told], description: str) -> tuple[Any, Any]:
    """Type and field of `context` or `user` in a request model; nothing told by default."""
    nothing = model()
    return model, Field(default_factory=partial(same, nothing), description=description)


def batch_model(features: Features, most: int) -> type[UserBatch]:
    """UserBatch of at most so many users, whose profiles hold these features."""
    profile = (profile_model(features), Field(description=PostedUser.model_fields["profile"].description))
    posted: Any = create_model("PostedUser", __base__=PostedUser, profile=profile)
    return create_model("UserBatch", __base__=UserBatch, users=(list[posted], Field(min_length=1, max_length=most)))


def _value(value: Any) -> Value:
    told: Value = tuple(sorted(set(value))) if isinstance(value, list) else value
    return told


def same(value: Any) -> Any:
    """The value itself, for defaults that need no copy: they are frozen."""
    return value
