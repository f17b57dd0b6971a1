"""CELRules: an authorizer made of expressions. What may pass, what may not, and what must hold.

Only `True` is yes, and no error opens anything: in `allow` and `require` it is a no, and in `deny` it denies.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from agentgate import cel

from .context import VARIABLES, Variables
from .decision import Decision
from .decision import allow as yes
from .decision import deny as no
from .errors import ConfigurationError, describe
from .policy import Authorizer
from .request import Request

_SETS: Final = ("allow", "deny", "require")


class _Rule(NamedTuple):
    name: str
    evaluate: Callable[[Any], Any]
    decided: Decision  # when this rule decides without failing

    def ask(self, variables: Variables) -> bool | str | None:
        """Yes, no, None where a provisional call leaves it open, or how it failed, in words that hold no value."""
        try:
            answer = self.evaluate(variables)
        except cel.EvaluationError as error:
            return f"{self.name!r} failed at {error.line}:{error.column}: {error.kind}"
        except cel.Unknown:  # nothing but a provisional call has unknowns
            return None
        except Exception as exc:
            return f"{self.name!r} failed: {describe(exc)}"
        if answer is True or answer is False:
            return answer is True
        return f"{self.name!r} failed: its value is no bool"


class CELRules(Authorizer):
    """Decides by expressions of the Common Expression Language over the variables of `agentgate.context`.

    Each set is a list of expressions or a mapping from names to them; without a name, a rule is called `allow[0]`. Any
    `deny` that is true denies; then any `require` that is not true denies; then any `allow` that is true allows. If
    none is, the request may pass only where there are no `allow` rules. A failing `deny` denies, any other failing
    rule is a no. Of a provisional call (`Call.provisional`) nothing is denied for want of what is not known yet.

    Every fault of every rule is in one ConfigurationError; no rules at all is one, too.
    """

    def __init__(
        self,
        *,
        allow: Sequence[str] | Mapping[str, str] = (),
        deny: Sequence[str] | Mapping[str, str] = (),
        require: Sequence[str] | Mapping[str, str] = (),
    ) -> None:
        faults: list[str] = []
        named = [_named(name, rules, faults) for name, rules in zip(_SETS, (allow, deny, require), strict=True)]
        names = [name for rules in named for name, _ in rules]
        faults += [f"{name}: several rules have this name" for name in dict.fromkeys(names) if names.count(name) > 1]
        allowing, denying, required = (
            [rule for name, text in rules for rule in _compiled(name, text, faults)] for rules in named
        )
        if not (names or faults):
            faults.append("CELRules without a rule would let everything pass")
        if faults:
            raise ConfigurationError(faults)
        policy = self.name
        self.reads_body = any(rule.may_read("request.body") for _, rule in (*allowing, *denying, *required))
        self._allow = [_Rule(name, rule.evaluate, yes(rule=name, policy=policy)) for name, rule in allowing]
        self._deny = [_Rule(name, rule.evaluate, no(rule=name, policy=policy)) for name, rule in denying]
        self._require = [_Rule(name, rule.evaluate, no(rule=name, policy=policy)) for name, rule in required]
        self._unmatched = f"none of {len(allowing)} allow rules matched"
        self._otherwise = no(detail=self._unmatched, policy=policy) if allowing else yes(policy=policy)

    def check(self, request: Request) -> Decision:
        """Decide. The rule that did is named in the Decision; its detail tells which one failed, and where."""
        variables = Variables(request)
        for rule in self._deny:
            answer = rule.ask(variables)
            if answer is True:
                return rule.decided
            if answer:
                return self._failed(answer, rule.name)
        for rule in self._require:
            answer = rule.ask(variables)
            if answer is False:
                return rule.decided
            if answer is not True and answer is not None:
                return self._failed(answer, rule.name)
        failed = ""
        for rule in self._allow:
            answer = rule.ask(variables)
            if answer is True or answer is None:  # the call itself will be judged
                return rule.decided
            failed = failed or answer or ""  # of several, the first is told
        return self._failed(f"{self._unmatched}; {failed}") if failed else self._otherwise

    def _failed(self, detail: str, rule: str | None = None) -> Decision:
        return no(detail=detail, rule=rule, policy=self.name)

    def __repr__(self) -> str:
        sets = zip(_SETS, (self._allow, self._deny, self._require), strict=True)
        return f"CELRules({', '.join(f'{len(rules)} {name}' for name, rules in sets if rules)})"


def _named(kind: str, rules: Any, faults: list[str]) -> list[tuple[str, str]]:
    """The rules of one set with their names; what is no rule is added to the faults."""
    if isinstance(rules, Mapping):
        pairs = list(rules.items())
    elif isinstance(rules, Sequence) and not isinstance(rules, str | bytes):
        pairs = [(f"{kind}[{index}]", text) for index, text in enumerate(rules)]
    else:
        faults.append(f"{kind} is a list of expressions or a mapping from names to them, not {type(rules).__name__}")
        return []
    found = []
    for name, text in pairs:
        if not isinstance(name, str) or not name:
            faults.append(f"{kind}: the name of a rule is text, not {name!r}")
        elif not isinstance(text, str):
            faults.append(f"{name}: an expression is text, not {type(text).__name__}")
        else:
            found.append((name, text))
    return found


def _compiled(name: str, text: str, faults: list[str]) -> list[tuple[str, cel.Expression]]:
    """The rule, compiled. Of one that cannot be, every problem is added to the faults instead."""
    try:
        return [(name, cel.compile(text, variables=VARIABLES, result="bool"))]
    except cel.CompileError as error:
        faults += [f"{name}: {problem}" for problem in error.problems]
        return []
