"""Versions: of Headrace, and of the code and configuration that a table was made with.

Belongs here: naming what would make the same input give another output.
Elsewhere: recording it (headrace.ledger, snapshot properties).
"""

import hashlib
import json

from pydantic import BaseModel

VERSION = "0.1.0"


def code_version(*configured: BaseModel) -> str:
    """A short name of this release together with what the user configured."""
    text = json.dumps([model.model_dump(mode="json") for model in configured], sort_keys=True)
    return f"{VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
