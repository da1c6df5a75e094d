"""Refuses a run that the administrator's policy does not allow, before anything is opened or written.

Every kind of run calls `enforce` with its options. Engines that are chosen later (by shots, treatments, quality) are
checked where they are loaded (`rtface.engine.engine_set.EngineSet.named`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtface import plugins
from rtface.config.gone import gone
from rtface.config.options import OPTIONS, Options, Scope, learnt_persons
from rtface.config.policy import Policy, policies
from rtface.engine.engine_set import LIGHT, check_allowed, engine_names, recipe_named
from rtface.engine.learned import path_of, read
from rtface.engine.recipe import find_recipes
from rtface.errors import MissingComponent, OptionFlag, UsageError
from rtface.stages.entry_points import load_stage
from rtface.stages.options import Spec
from rtface.stages.runner import check_commercial_use
from rtface.util.spelling import hint

KINDS = ("vivid", "added-engines", "synthetic", "own-stages", "live", "learning")
"""Words of ``forbid`` that are no names; docs/trust.md explains them."""
# What a user may choose of a label that `require-label = true` asks for: what it says, where, in which letters.
_FREE = ("preset", "text", "place", "font")


@dataclass(frozen=True, slots=True)
class Uses:
    """What a run uses by name, as its options say.

    Attributes:
        engines: from which it chooses.
        persons: who were learnt.
    """

    engines: Sequence[str]
    persons: Sequence[str]

    @classmethod
    def of(cls, options: Options) -> Uses:
        """What a run with these options uses."""
        return cls(engine_names(options.engine, options.engine_control), learnt_persons(options.person))


def enforce(options: Options, run: Scope) -> None:
    """Refuses what a policy does not allow.

    Args:
        options: of the run.
        run: its kind. One with ANALYSIS shows faces or figures and writes no output: it needs neither label nor
            credentials. The others need credentials where they are ENCODED, STILLS or RECORDED.

    Raises:
        UsageError: a policy does not allow the run, or cannot be used; the message names file and key.
        MissingComponent: a stage that has to be looked at cannot be loaded.
        InputError: a person who has to be looked at was not learnt here.
    """
    found = policies()
    if not found:
        return
    uses, specs = Uses.of(options), [Spec.parse(text) for text in options.stages]
    given = [name for name, option in OPTIONS.items() if getattr(options, name) != option.default]
    for policy in found:
        check_words(policy)
        _check_options(policy, given, run)
        _check_stages(policy, [spec.name for spec in specs])
        _check_learnt(policy, uses.persons)
        if Scope.ANALYSIS not in run:
            _check_label(policy, specs, given)
            if run & (Scope.ENCODED | Scope.STILLS | Scope.RECORDED):
                _check_credentials(policy, given)
    if run != Scope.ANALYSIS:
        light = (LIGHT,) if Scope.LIVE in run else ()
        for name in (*uses.engines, *light):
            check_allowed(recipe_named(name))


def required_stages() -> list[str]:
    """What the policies ask for as ``--stage``: a label, which has to be the last, or nothing."""
    return [_example(policy) for policy in policies() if policy.require_label][:1]


def required_flags() -> list[str]:
    """What the policies ask for on the command line of ``rtface run``: a label as the last stage, credentials."""
    signed = any(policy.require_credentials for policy in policies())
    return [*(word for stage in required_stages() for word in ("--stage", stage)), *["--sign", "CERT,KEY"] * signed]


def enforce_learning() -> Path | None:
    """Refuses `rtface learn` where a policy does not allow it; gives the policy that asks for consent in words, None
    where none does. Raises as `enforce`."""
    wanted = None
    for policy in policies():
        check_words(policy)
        _check_learning(policy)
        wanted = policy.path if policy.require_consent else wanted
    return wanted


def locked_controls() -> dict[str, str]:
    """Settings of a live run that a policy forbids, which nothing may change while it runs, with the message."""
    return {
        word.replace("-", "_"): f"the policy {policy.path} forbids {word} (forbid: {word})"
        for policy in policies()
        for word in policy.forbid
    }


def check_words(policy: Policy) -> None:
    """Raises UsageError for a word of ``forbid`` that names nothing, and a label that cannot be used."""
    known: list[str] | None = None
    for word in policy.forbid:
        kind, colon, name = word.partition(":")
        if (
            word in KINDS
            or word.replace("-", "_") in OPTIONS
            or gone(word, word)
            or (colon and name and kind in ("engine", "stage"))
        ):
            continue
        known = known or [
            *KINDS,
            *find_recipes(),
            *plugins.installed("stage"),
            *(option.flag.removeprefix("--") for option in OPTIONS.values()),
        ]
        if word not in known:
            raise UsageError(
                "the policy {path}: forbid: there is no {word!r} here{hint}; write engine:{word} or stage:{word} "
                "for one that is not installed",
                code="policy_word",
                path=policy.path,
                word=word,
                hint=hint(word, known),
            )
    if policy.require_label:
        try:
            Spec.parse(policy.require_label)
        except UsageError as error:
            raise UsageError(
                "the policy {path}: require-label: {why}", code="policy_label_wrong", path=policy.path, why=error
            ) from error


def _check_options(policy: Policy, given: Collection[str], run: Scope) -> None:
    if Scope.LIVE in run and policy.forbids("live"):
        raise UsageError("the policy {path} forbids live runs (forbid: live)", code="policy_live", path=policy.path)
    for word in policy.forbid:
        option = OPTIONS.get(word.replace("-", "_"))
        if option is not None and option.scope & run and option.name in given:
            raise UsageError(
                "the policy {path} forbids {flag} (forbid: {word}); leave it out",
                code="policy_option",
                path=policy.path,
                flag=OptionFlag(option.flag),
                word=word,
            )


def _check_stages(policy: Policy, names: Sequence[str]) -> None:
    if not (policy.forbid or policy.commercial_use):
        return
    installed = plugins.installed("stage")
    forbidden = {
        name: plugins.load_point("stage", point)
        for name, point in installed.items()
        if policy.forbids(name, f"stage:{name}")
    }
    for name in names:
        own = name not in installed
        word = policy.forbids(name, f"stage:{name}", *("own-stages",) * own)
        if word is None and own and forbidden:  # it may be the class of a forbidden stage, or derived from one
            kind = load_stage(name)
            word = next(
                (other for other, each in forbidden.items() if isinstance(kind, type) and issubclass(kind, each)), None
            )
        if word is not None:
            raise UsageError(
                "the policy {path} forbids the stage {name} (forbid: {word}); leave it out",
                code="policy_stage",
                path=policy.path,
                name=name,
                word=word,
            )
        if policy.commercial_use:
            check_commercial_use(name, f"leave it out, because commercial-use is on in the policy {policy.path}")


def _check_learning(policy: Policy) -> None:
    if policy.forbids("learning"):
        raise UsageError(
            "the policy {path} forbids to learn persons, and to use who was learnt (forbid: learning); ask the "
            "administrator",
            code="policy_learning",
            path=policy.path,
        )


def _check_learnt(policy: Policy, persons: Sequence[str]) -> None:
    if not persons:
        return
    _check_learning(policy)
    for name in persons if policy.require_consent else ():
        if not read(path_of(name)).meta.get("consent"):
            raise UsageError(
                "the policy {path} asks for consent (require-consent), and none was noted when {person} was "
                "learnt; learn again with: rtface learn {person} SOURCE --consent TEXT "
                "{--overwrite=True}, or leave out {--person:{person}}",
                code="policy_no_consent",
                path=policy.path,
                person=name,
            )


def _check_label(policy: Policy, stages: Sequence[Spec], given: Collection[str]) -> None:
    if not policy.require_label:
        return
    wanted = Spec.parse(policy.require_label)
    last = stages[-1] if stages else None
    asks = f"the policy {policy.path} asks for a visible label (require-label)"
    free = ("font",) if wanted.values else _FREE
    if "label" not in plugins.installed("stage"):
        raise MissingComponent("{policy}, and the stage label is not installed", code="policy_label", policy=asks)
    if last is None or last.name != "label" or not _fits(last.values or {}, wanted.values or {}, free):
        only = f"with no other options than {', '.join(free)}" if free != ("font",) else "as it is"
        raise UsageError(
            "{policy}; add this as the last stage, {only}: {--stage:{stage}}",
            code="policy_label_add",
            policy=asks,
            only=only,
            stage=_example(policy),
        )
    if "compare" in given:
        raise UsageError(
            "{policy}, and {--compare} shows frames without it; leave it out", code="policy_label_compare", policy=asks
        )


def _example(policy: Policy) -> str:
    """A label that a policy's ``require-label`` is content with."""
    return policy.require_label if Spec.parse(policy.require_label).values else "label:preset=eu-modified"


def _fits(given: dict[str, str], wanted: dict[str, str], free: tuple[str, ...]) -> bool:
    """Whether a label has the options that are wanted, and no other but the free ones; its text can be read."""
    return (
        all(given.get(key) == value for key, value in wanted.items())
        and all(key in wanted or key in free for key in given)
        and ("text" not in given or any(sign.isalnum() for sign in given["text"]))
    )


def _check_credentials(policy: Policy, given: Collection[str]) -> None:
    if not policy.require_credentials:
        return
    asks = f"the policy {policy.path} asks for signed outputs (require-credentials)"
    if "sign" not in given:
        raise UsageError("{policy}; add {--sign:CERT},KEY", code="policy_sign", policy=asks)
    if "compare" in given:
        raise UsageError(
            "{policy}, and what {--compare} writes is not signed; leave it out", code="policy_sign_compare", policy=asks
        )
