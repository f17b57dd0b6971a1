"""CELRules: an authorizer made of expressions. What may pass, what may not, and what must hold.

Only `True` is yes, and no error opens anything: in `allow` and `require` it is a no, and in `deny` it denies.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Final, NamedTuple

from agentgate import cel

from .context import READERS, VARIABLES, Reader, env_readers
from .decision import Decision, RuleSet, Verdict
from .decision import allow as yes
from .decision import deny as no
from .elsewhere import REASONS
from .errors import ConfigurationError, describe
from .headers_view import FUNCTIONS
from .names import Names
from .policy import Authorizer
from .request import Request

_NAMED: Final = {"tools": "mcp.tool.name", "prompts": "mcp.prompt.name", "models": "llm.requestModel"}


class _Failure(NamedTuple):
    """How a rule failed, as a word and as a sentence: neither holds a value."""

    outcome: str
    detail: str


class _Rule(NamedTuple):
    name: str
    set: RuleSet
    expression: cel.Expression
    evaluate: Callable[[Any], Any]  # the expression's own: it saves a look-up
    decided: Decision  # when this rule decides without failing

    def ask(self, request: Request) -> bool | _Failure | None:
        """Yes, no, None where a provisional call leaves it open, or how the rule failed."""
        try:
            answer = self.evaluate(request)
        except cel.EvaluationError as error:
            return _Failure(error.kind, f"{self.name!r} failed at {error.line}:{error.column}: {error.kind}")
        except cel.Unknown:
            if request.provisional:
                return None
            return _Failure("unknown", f"{self.name!r} failed: it depends on what is not known")
        except Exception as exc:
            return _Failure(describe(exc), f"{self.name!r} failed: {describe(exc)}")
        if answer is True or answer is False:
            return answer is True
        return _Failure("value", f"{self.name!r} failed: its value is no bool")

    def verdict(self, request: Request, decided: str | None) -> Verdict:
        """What the rule says and why; `decided` names the rule that did."""
        answer = self.ask(request)
        outcome = (
            answer.outcome if isinstance(answer, _Failure) else "unknown" if answer is None else str(answer).lower()
        )
        try:
            why = tuple(self.expression.explain(request))
        except Exception:  # not the expression's own, so it has no place in it; the outcome tells what it was
            why = ()
        return Verdict(self.name, self.set, outcome, self.name == decided, why)


class CELRules(Authorizer):
    """Decides by expressions of the Common Expression Language over the variables of `agentgate.context`.

    Each set is a list of expressions or a mapping from names to them; without a name, a rule is called `allow[0]`. Any
    `deny` that is true denies; then any `require` that is not true denies; then any `allow` that is true allows. If
    none is, the request may pass only where there are no `allow` rules. A failing `deny` denies, any other failing
    rule is a no. Of a provisional call (`Call.provisional`) nothing is denied for want of what is not known yet.

    `claims` and `metadata` say which keys of `jwt` and `apiKey` there are, and of which type: `{"sub": "string",
    "groups": "list(string)"}`; a rule that reads another is then a fault. `env` is `env.podName`, `env.namespace` and
    `env.gateway`; without it they are POD_NAME, NAMESPACE and GATEWAY of the environment.

    Every fault of every rule is in one ConfigurationError; no rules at all is one, too.
    """

    def __init__(
        self,
        *,
        allow: Sequence[str] | Mapping[str, str] = (),
        deny: Sequence[str] | Mapping[str, str] = (),
        require: Sequence[str] | Mapping[str, str] = (),
        claims: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        place = _Place(claims, metadata, env)
        faults = place.faults
        sets: tuple[tuple[RuleSet, Any], ...] = ("allow", allow), ("deny", deny), ("require", require)
        named = [(name, set, text) for set, given in sets for name, text in _named(set, given, faults)]
        faults += _doubles(name for name, _, _ in named)
        if not (named or faults):
            faults.append("CELRules without a rule would let everything pass")
        rules = [
            _Rule(name, set, found, found.evaluate, (yes if set == "allow" else no)(rule=name, policy=self.name))
            for name, set, text in named
            if (found := place.rule(name, text)) is not None
        ]
        if faults:
            raise ConfigurationError(faults)
        self._take(rules)

    def _take(self, rules: Sequence[_Rule]) -> None:
        self._deny, self._require, self._allow = (
            [rule for rule in rules if rule.set == set] for set in ("deny", "require", "allow")
        )
        self.reads_body = any(rule.expression.may_read("request.body") for rule in rules)
        self._unmatched = f"none of {len(self._allow)} allow rules matched"
        self._otherwise = no(detail=self._unmatched, policy=self.name) if self._allow else yes(policy=self.name)

    def _in_order(self) -> list[_Rule]:
        return [*self._deny, *self._require, *self._allow]

    def names(self) -> Names:
        rules = self._in_order()
        named = {
            kind: frozenset[str]().union(*(rule.expression.compared(path) for rule in rules))
            for kind, path in _NAMED.items()
        }
        return Names(policies=frozenset({self.name}), rules=frozenset(rule.name for rule in rules), **named)

    def merged(self, *others: "CELRules") -> "CELRules":
        """These rules and those of `others` in one evaluation: each `deny` of any of them denies, each `allow` allows.
        Two rules of one name are a ConfigurationError."""
        rules = [rule for one in (self, *others) for rule in one._in_order()]
        if doubles := _doubles(rule.name for rule in rules):
            raise ConfigurationError(doubles)
        merged = copy(self)
        merged._take(rules)
        return merged

    def check(self, request: Request) -> Decision:
        """Decide. The rule that did is named in the Decision; its detail tells which one failed, and where."""
        for rule in self._deny:
            answer = rule.ask(request)
            if answer is True:
                return rule.decided
            if answer:
                return self._failed(answer.detail, rule.name)
        for rule in self._require:
            answer = rule.ask(request)
            if answer is False:
                return rule.decided
            if answer is not True and answer is not None:
                return self._failed(answer.detail, rule.name)
        failed = ""
        for rule in self._allow:
            answer = rule.ask(request)
            if answer is True or answer is None:  # None: the call itself will be judged
                return rule.decided
            if answer and not failed:
                failed = answer.detail  # of several, the first is told
        return self._failed(f"{self._unmatched}; {failed}") if failed else self._otherwise

    def _failed(self, detail: str, rule: str | None = None) -> Decision:
        return no(detail=detail, rule=rule, policy=self.name)

    def explain(self, request: Request) -> list[Verdict]:
        """What every rule says and why, in the order in which they are asked. Slow; no Verdict holds a value."""
        decided = self.check(request).rule
        return [rule.verdict(request, decided) for rule in self._in_order()]

    def __repr__(self) -> str:
        sets = (("allow", self._allow), ("deny", self._deny), ("require", self._require))
        return f"CELRules({', '.join(f'{len(rules)} {name}' for name, rules in sets if rules)})"


def _named(set: RuleSet, rules: Any, faults: list[str]) -> list[tuple[str, str]]:
    """The rules of one set with their names; what is no rule is added to the faults."""
    if isinstance(rules, Mapping):
        pairs = list(rules.items())
    elif isinstance(rules, Sequence) and not isinstance(rules, str | bytes):
        pairs = [(f"{set}[{index}]", text) for index, text in enumerate(rules)]
    else:
        faults.append(f"{set} is a list of expressions or a mapping from names to them, not {type(rules).__name__}")
        return []
    found = []
    for name, text in pairs:
        if not isinstance(name, str) or not name:
            faults.append(f"{set}: the name of a rule is text, not {name!r}")
        elif not isinstance(text, str):
            faults.append(f"{name}: an expression is text, not {type(text).__name__}")
        else:
            found.append((name, text))
    return found


def _doubles(names: Iterable[str]) -> list[str]:
    return [f"{name}: several rules have this name" for name, count in Counter(names).items() if count > 1]


def compile_rule(text: str, *, without: Mapping[str, str]) -> cel.Expression:
    """The expression of a rule, for a place where some of the variables cannot be: which, and why. Raises
    `cel.CompileError`."""
    return _Place(without=without).compile(text)


def compile_value(text: str, result: str) -> cel.Expression:
    """An expression over what rules may read, of another type than theirs. Raises `cel.CompileError`."""
    return _Place().compile(text, result)


class _Place:
    """What the rules of one place may read, and how. What is wrong with the options is added to the faults."""

    def __init__(
        self, claims: Any = None, metadata: Any = None, env: Any = None, *, without: Mapping[str, str] = REASONS
    ) -> None:
        self.faults: list[str] = []
        self.reasons = {**REASONS, **without}
        self.variables = {name: kind for name, kind in VARIABLES.items() if name not in without}
        for variable, secret, keys in (("jwt", "rawToken", claims), ("apiKey", "key", metadata)):
            if keys is not None:
                try:
                    self.variables[variable] = cel.closed_map(variable, {**keys, secret: "string"})
                except (ConfigurationError, TypeError) as exc:
                    self.faults.append(f"{'claims' if variable == 'jwt' else 'metadata'}: {exc}")
        self.readers: dict[str, Reader] = dict(READERS)
        try:
            self.readers |= env_readers(env)
        except ConfigurationError as exc:
            self.faults += exc.faults

    def compile(self, text: str, result: str = "bool") -> cel.Expression:
        """The expression of a rule. Raises `cel.CompileError`."""
        return cel.compile(
            text,
            variables=self.variables,
            functions=FUNCTIONS,
            reasons=self.reasons,
            readers=self.readers,
            result=result,
        )

    def rule(self, name: str, text: str) -> cel.Expression | None:
        """The same; of one that cannot be, every problem is added to the faults."""
        try:
            return self.compile(text)
        except cel.CompileError as error:
            self.faults += [f"{name}: {problem}" for problem in error.problems]
            return None
