"""Passwords, tokens and keys, hidden in whatever a person or a run is shown."""

from __future__ import annotations

import re

HIDDEN = "***"

# The user information of a URL ends at its last @: passwords that were not percent-encoded hold @, #, / and ? too.
_IN_USER_INFORMATION = re.compile(r"(?P<before>[A-Za-z][\w+.-]*://[^\s:/?#@'\"]*):[^\s'\"]*@")
_NAMES = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIAL|ACCESS_KEY|API_?KEY|PRIVATE_KEY", re.IGNORECASE)
_IN_QUERY = re.compile(
    r"(?P<before>[?&;][\w.-]*(?:password|passwd|passphrase|pwd|secret|token|credential|signature|api_?key|access_?key)"
    r"[\w.-]*=)[^\s&;'\"]+",
    re.IGNORECASE,
)


def hide_secrets(text: str) -> str:
    """Replace the password of every URL in `text`, and what its query names a password, token or key, by ***."""
    text = _IN_USER_INFORMATION.sub(rf"\g<before>:{HIDDEN}@", text)
    return _IN_QUERY.sub(rf"\g<before>{HIDDEN}", text)


def holds_secret(name: str, value: str) -> bool:
    """Whether an environment variable is a secret, by its name or by a URL in its value."""
    return bool(_NAMES.search(name)) or hide_secrets(value) != value
