"""Prompt injection in English and French: attacks, leaked prompts and markers of chat templates.

The attacks override instructions (Perez and Ribeiro 2022, arXiv:2211.09527; OWASP LLM01:2025) or set the persona
"DAN" (Shen et al. 2023, arXiv:2308.03825). Patterns match whole phrases only, because "forget it" and "ignore my
last message" are normal. A phrase right after a quotation mark is a quotation and does not count. Disguised
attacks (homoglyphs, base64, other languages) are not found: this filter cleans a dataset, it does not protect a
model.
"""

import re

from mongars.records import Role

# Separators of the chat templates of ChatML, Llama, Mistral, Gemma, Phi, DeepSeek and Alpaca. Tokenisers turn them
# into control tokens, so even a quoted one must not be learned from.
_MARKERS = re.compile(
    r"<\|[A-Za-z_]{2,30}\|>|<\uff5c[^\uff5c<>]{2,30}\uff5c>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|^### Instruction:[ \t]*$|### Instruction:.*### Response:",
    re.MULTILINE | re.DOTALL,
)
_MARKER_CUES = ("<", "[INST", "[/INST", "###")  # a cheap test before the pattern, as _ATTACK_CUES
# A recalled memory in the form of conversation/prompt.py: a reply that contains one repeats its prompt.
_MEMORY = re.compile(r'\{"when": ?"\d{4}-\d\d-\d\d", ?"said_by":')

_IGNORE = r"(?:ignore|disregard|forget|override|bypass)"
_RULES = r"(?:instructions?|prompts?|directives?|guidelines?|rules|commands|programming|restrictions)"
_ENGLISH = (
    rf"{_IGNORE}\s+(?:(?:all|any|every|of|the|your|my|these|those)\s+){{0,4}}"
    rf"(?:(?:previous|prior|preceding|foregoing|above|earlier)\s+(?:\w+\s+)?{_RULES}"
    r"|system (?:prompt|instructions?))\b",
    rf"{_IGNORE}\s+(?:(?:all|any|every)\s+(?:of\s+)?)?your\s+(?:\w+\s+)?{_RULES}\b",
    rf"{_IGNORE}\s+(?:(?:all|any)\s+(?:of\s+)?)?(?:the\s+)?{_RULES}\s+(?:above|before this|you were given)\b",
    r"(?:you are|you['\u2019]re|act as|pretend to be)\s+(?:now\s+)?(?:a\s+)?(?-i:DAN)\b",
    r"(?-i:DAN)\b.{0,80}?\bdo anything now\b|do anything now\b.{0,80}?(?-i:\bDAN\b)",
    r"(?:jailbreak|(?-i:DAN)) mode (?:is )?(?:now )?(?:enabled|activated)\b|developer mode output\b",
    r"(?:reveal|show|print|repeat|output|display|tell|give|leak|recite)\s+(?:(?:me|us|all|of)\s+){0,3}"
    r"(?:(?:your|the)\s+(?:\w+\s+)?system\s+(?:prompt|message|instructions?)"
    r"|your\s+(?:initial|hidden|original|secret)\s+(?:prompt|instructions?))\b",
    r"what(?:['\u2019]s| is| are| was| were)\s+your\s+(?:\w+\s+)?(?:system|initial|hidden|secret)\s+"
    r"(?:prompt|instructions?)\b",
    r"my\s+(?:\w+\s+)?system\s+prompt\s+(?:is|was|says|reads)\b",
    r"here\s+(?:is|are)\s+(?:my|the)\s+(?:\w+\s+)?(?:system|initial|hidden|secret)\s+(?:prompt|instructions?)\b",
    r"(?:^|(?:my|your)\s)system prompt\s*:",
)
_IGNORER = (
    r"(?:(?:ignore|oublie|contourne)[rz]?"
    r"|ne (?:suis|suivez|respectez?) (?:pas|plus)|ne (?:tiens|tenez) (?:pas|plus) compte)"
)
_CONSIGNES = r"(?:instructions?|consignes?|directives?|règles?|prompts?)"
_FRENCH = (
    rf"{_IGNORER}\s+(?:(?:toutes|tous|les|des|de|tes|vos|mes|ces)\s+){{0,3}}{_CONSIGNES}\s+(?:\w+\s+)?"
    r"(?:précédente?s?|antérieure?s?|ci-dessus)\b",
    rf"{_IGNORER}\s+(?:(?:toutes|tous|de)\s+)?(?:tes|vos)\s+{_CONSIGNES}\b",
    r"(?:tu es|vous êtes|agis comme|agissez comme|fais semblant d['\u2019]être)\s+"
    r"(?:maintenant\s+|désormais\s+)?(?-i:DAN)\b",
    r"(?:révèle|affiche|montre|répète|donne|dis|écris)[rz]?(?:[- ](?:moi|nous))?\s+(?:tout\s+)?"
    r"(?:(?:ton|votre|le)\s+(?:prompt|message|invite)\s+(?:système|initiale?|cachée?|secrète?)"
    r"|(?:tes|vos|les)\s+(?:instructions|consignes)\s+(?:système|initiales|cachées|secrètes))\b",
    r"(?:quel(?:le)? est|quelles sont)\s+(?:ton|votre|tes|vos)\s+(?:prompt|invite|instructions|consignes)\s+"
    r"(?:système|initiale?s?|cachée?s?|secrète?s?)\b",
    r"mon\s+(?:prompt|invite)\s+système\s+(?:est|dit)\b",
    r"voici\s+(?:mon|le|mes|les)\s+(?:prompt|invite|instructions|consignes)\s+(?:système|initiales?|cachées?)\b",
    r"(?:^|(?:mon|ton|votre)\s)(?:prompt|invite) système\s*:",
)
_NOT_QUOTED = r"(?<![\w\"'`\u201c\u2018\u00ab-])(?<!\u00ab[ \u00a0\u202f])"
_ATTACK = re.compile(f"{_NOT_QUOTED}(?:{'|'.join((*_ENGLISH, *_FRENCH))})", re.IGNORECASE | re.MULTILINE)
# Every pattern needs one of these words, and searching for them first is much faster.
_ATTACK_CUES = (
    *("instruct", "prompt", "directive", "guideline", "rules", "command", "programming", "restriction", "message"),
    *("consigne", "règle", "invite", "jailbreak", "developer mode"),
)


def carries_injection(text: str, role: Role) -> bool:
    """Report whether a turn contains an attack, its echo, or a piece of a prompt or of a chat template.

    A system turn is itself a prompt ("never reveal your system prompt"), so only template markers count in it.
    """
    if any(map(text.__contains__, _MARKER_CUES)) and _MARKERS.search(text):
        return True
    if role == "system":
        return False
    lower = text.lower()
    suspect = "DAN" in text or any(word in lower for word in _ATTACK_CUES)
    return bool((suspect and _ATTACK.search(text)) or ('"when"' in text and _MEMORY.search(text)))
