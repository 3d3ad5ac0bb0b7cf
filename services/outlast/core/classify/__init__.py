"""What one provider call means: transport outcome, then body, then status, by tables.

The order is that of the evidence: did the request leave, is the answer JSON, what code does it
name, what does its text say, and only then the status. No status is believed alone: a 429 can
mean four things and a 400 five.
"""

from dataclasses import replace

from outlast.core.classify.answer import Judge, fault_in_answer
from outlast.core.classify.error_body import ErrorBody, read_error
from outlast.core.classify.note import note_of, one_line, words_of
from outlast.core.classify.retry_after import retry_after
from outlast.core.classify.rules import AMBIGUOUS, DOWN, FAMILY_RULES, REJECTED, SHARED_RULES, Rule
from outlast.core.classify.statuses import word_of_status
from outlast.core.verdict import Answered, Cut, MaybeExecuted, NotSent, Outcome, Verdict
from outlast_schemas.attempt import VerdictWord

__all__ = ["classify", "retry_after"]

SUSPECT = frozenset({VerdictWord.PROVIDER_DOWN, VerdictWord.AMBIGUOUS})
"""The verdicts that speak against the provider."""


def classify(family: str, outcome: Outcome, now: float, judge: Judge = fault_in_answer) -> Verdict:
    """Give the verdict on one call.

    Args:
        family: ``compatible``, ``openai``, ``deepseek`` or ``anthropic``; any other is judged
            by the rules they share.
        outcome: what the transport saw; a good answer is already in OpenAI's form.
        now: epoch seconds, to read a ``Retry-After`` that is a date.
        judge: says whether the body of a 200 holds what was asked for; that of a
            ``chat.completion`` unless told otherwise.

    Returns:
        The verdict; ``served`` is left to the caller, who knows the provider and the bytes.
    """
    match outcome:
        case Answered():
            return _judged(family, outcome, now, judge)
        case NotSent(note=note):
            return Verdict(word=VerdictWord.PROVIDER_DOWN, note=one_line(note), evidence=True)
        case MaybeExecuted(note=note, status=status):
            return Verdict(
                word=VerdictWord.AMBIGUOUS, status=status, note=one_line(note), evidence=True
            )
        case Cut(clock=clock, note=note):
            # The job's own deadline says nothing about the provider.
            return Verdict(
                word=VerdictWord.AMBIGUOUS, note=one_line(note), evidence=clock != "deadline"
            )


def _judged(family: str, answer: Answered, now: float, judge: Judge) -> Verdict:
    if not 200 <= answer.status < 300:
        error = read_error(answer.payload)
        verdict = _failed(_word(family, answer.status, error, answer), answer, error, now)
        if _rule(family, answer.status, error) is None:
            return _unrecognised(verdict)
        return verdict
    if not answer.body.strip():
        # Accepted, perhaps run and billed, and no answer came: the definition of ambiguous.
        # DeepSeek does this under load (DeepSeek-R1 #314), often after a minute's work.
        return _failed(AMBIGUOUS, answer, ErrorBody(text="empty body"), now)
    if answer.payload is None:
        word = DOWN if _is_html(answer) else AMBIGUOUS
        return _failed(word, answer, ErrorBody(text="the body is not JSON"), now)
    fault = judge(answer.payload)
    if fault is None:
        return Verdict(
            word=VerdictWord.SUCCEEDED, status=answer.status, request_id=_request_id(answer)
        )
    error = read_error(answer.payload)
    if error.is_error:
        # An error inside a 200 means what it would have meant with a status of its own.
        return _failed(_word(family, error.status or 200, error, answer), answer, error, now)
    return _failed(fault.word, answer, ErrorBody(text=fault.detail), now)


def _word(family: str, status: int, error: ErrorBody, answer: Answered) -> VerdictWord:
    rule = _rule(family, status, error)
    return rule.word if rule is not None else word_of_status(status, is_html=_is_html(answer))


def _rule(family: str, status: int, error: ErrorBody) -> Rule | None:
    rules = (*FAMILY_RULES.get(family, ()), *SHARED_RULES)
    return next((rule for rule in rules if rule.fits(status, error)), None)


def _unrecognised(verdict: Verdict) -> Verdict:
    """A 400 that no rule speaks of: it may be the job's fault, or the provider is unwell."""
    if verdict.status != 400 or verdict.word is not REJECTED:
        return verdict
    return replace(verdict, words=words_of(verdict.note or ""))


def _failed(word: VerdictWord, answer: Answered, error: ErrorBody, now: float) -> Verdict:
    return Verdict(
        word=word,
        status=answer.status,
        note=note_of(answer.status, error, b"" if answer.payload is not None else answer.body),
        request_id=_request_id(answer),
        retry_after=retry_after(answer.headers, answer.payload, now),
        evidence=word in SUSPECT,
    )


def _is_html(answer: Answered) -> bool:
    if answer.payload is not None:
        return False
    declared = "html" in answer.headers.get("content-type", "").lower()
    return declared or answer.body.lstrip()[:15].lower().startswith((b"<!doctype", b"<html"))


def _request_id(answer: Answered) -> str | None:
    for name in ("x-request-id", "request-id"):
        if value := answer.headers.get(name):
            return one_line(value)
    if isinstance(answer.payload, dict):
        value = answer.payload.get("request_id")
        if isinstance(value, str) and value:
            return one_line(value)
    return None
