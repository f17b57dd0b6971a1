"""The base of all document models: what is not known is refused, and every fault of a document is found at once.

pydantic's own messages may be shown, the values it was given may not: they can be secrets.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, NoReturn

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

Loc = tuple[str | int, ...]
Fault = tuple[Loc, str]

NOT_SUPPORTED: Final = "not supported by this version"
PARTIAL: Final = "partial"  # in a validation context: leave out the rules of `Model.faults`
RULE: Final = "rule"  # the type of the errors that those make

# Names end up in URLs, log lines and messages: nothing but what Kubernetes itself admits.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]


def _refuse(value: Any) -> None:
    if value is not None:  # as in Kubernetes, null is as good as absent
        raise PydanticCustomError("not_supported", NOT_SUPPORTED)


Unsupported = Annotated[None, BeforeValidator(_refuse)]
"""A field that agentgateway or the Gateway API has, and this version refuses by name."""


def null_is(make: Callable[[], Any]) -> BeforeValidator:
    """That null is as good as absent, as in Kubernetes."""
    return BeforeValidator(lambda value: make() if value is None else value)


def refuse_values(*names: str) -> BeforeValidator:
    """Values that the reference knows, and this version refuses by name."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and value in names:
            fault(f"{value} is {NOT_SUPPORTED}")
        return value

    return BeforeValidator(check)


def _error(text: str, kind: str = "fault") -> PydanticCustomError:
    return PydanticCustomError(kind, text)  # a template only for those who pass values


def fault(text: str) -> NoReturn:
    """Raise a fault of the value that is being validated."""
    raise _error(text)


class Model(BaseModel):
    """Strict, immutable, without unknown fields. Fields are camelCase in documents."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, alias_generator=to_camel
    )

    exactly_one_of: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        """What is wrong between fields, found on what was written: it is told along with what is wrong in them."""
        if cls.exactly_one_of:
            given = [name for name in cls.exactly_one_of if raw.get(name) is not None]
            if len(given) != 1:
                yield (), f"exactly one of {', '.join(cls.exactly_one_of)} must be set"

    @model_validator(mode="wrap")
    @classmethod
    def _all_at_once(cls, raw: Any, validate: ModelWrapValidatorHandler[Any], info: ValidationInfo) -> Any:
        partial = info.context is not None and PARTIAL in info.context
        own = [(RULE, *found) for found in cls.faults(raw)] if isinstance(raw, dict) and not partial else []
        if not own:
            return validate(raw)
        inner: list[tuple[str, Loc, str]] = []
        try:
            validate(raw)
        except ValidationError as exc:
            errors = exc.errors(include_url=False, include_input=False)
            inner = [(error["type"], error["loc"], message(error)) for error in errors]
        raise ValidationError.from_exception_data(
            cls.__name__,
            [InitErrorDetails(type=_error(text, kind), loc=loc, input=None) for kind, loc, text in (*inner, *own)],
            hide_input=True,
        ) from None


_MESSAGES: Final = {
    "extra_forbidden": "unknown field",
    "missing": "required",
    "model_type": "a mapping is expected",
    "dict_type": "a mapping is expected",
    "list_type": "a list is expected",
    "string_type": "text is expected (put it into quotes)",
}


def message(error: Mapping[str, Any]) -> str:
    """What to say about one of pydantic's errors."""
    return _MESSAGES.get(error["type"]) or error["msg"]
