"""Keys, tokens and passwords: by the published forms of keys, or by the words before a password."""

import re
from collections.abc import Iterator

from mongars.curation.pii.spans import LIKELY, PROVEN, PiiType, Span, blanked

# Published prefixes of keys: OpenAI, Anthropic and Stripe, GitHub, GitLab, AWS, Slack, Google, Hugging Face, npm,
# PyPI, SendGrid, JSON web tokens (RFC 7519), PEM private keys (RFC 7468).
_KEY = re.compile(
    r"(?<!\w)(?:[spr]k[-_][A-Za-z0-9_-]{16,256}|gh[oprsu]_[A-Za-z0-9]{30,255}|github_pat_\w{22,255}"
    r"|glpat-[\w-]{20,255}|(?:AKIA|ASIA)[0-9A-Z]{16}|xox[abeoprs]-[A-Za-z0-9-]{10,255}|AIza[\w-]{35}"
    r"|hf_[A-Za-z0-9]{30,255}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,255}|SG\.[\w-]{16,32}\.[\w-]{16,64}"
    r"|eyJ[\w-]{10,4096}\.[\w-]{10,8192}\.[\w-]{5,1024})"
    r"|-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----[A-Za-z0-9+/=\s:,-]{1,8192}"
)
# Every key contains one of these, and searching for them first is much faster than the pattern.
KEY_CUES = (
    *("sk-", "sk_", "pk_", "rk_", "pk-", "rk-", "gho_", "ghp_", "ghr_", "ghs_", "ghu_", "github_pat_", "glpat-"),
    *("AKIA", "ASIA", "xox", "AIza", "hf_", "npm_", "pypi-", "SG.", "eyJ", "-----BEGIN"),
)
# A value that the text calls a secret. It must contain a digit: "my password is wrong" reveals nothing.
_PASSWORD = re.compile(
    r"\b(?:api[ _-]?key|access[ _-]?token|secret|password|passwd|passcode|mot de passe|bearer)\b"
    r"(?:\s{0,3}[:=]|\s{1,3}(?:is|est)|(?<=bearer))\s{0,3}[\"'`]?"
    r"(?P<value>(?=[^\s\ue000]{0,128}\d)[^\s\"'`\ue000]{6,128})",
    re.IGNORECASE,
)
PASSWORD_CUES = ("key", "token", "secret", "passw", "passc", "mot de passe", "bearer")


def secrets(text: str) -> Iterator[Span]:
    """Yield keys, and passwords that the text names as such."""
    keys: list[Span] = []
    if any(map(text.__contains__, KEY_CUES)):
        keys = [Span(*match.span(), PiiType.SECRET, PROVEN) for match in _KEY.finditer(text)]
        yield from keys
    lower = text.lower()
    if any(map(lower.__contains__, PASSWORD_CUES)):
        for match in _PASSWORD.finditer(blanked(text, keys)):
            yield Span(*match.span("value"), PiiType.SECRET, LIKELY)
