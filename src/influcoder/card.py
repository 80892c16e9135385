"""The model card that stands in an encoder's folder."""

from collections.abc import Mapping
from typing import Any


def model_card(description: Mapping[str, Any]) -> str:
    """The encoder's README.md: what it is, what it was made from, how well it agrees, how to use it."""
    measured = "\n".join(f"| {name} | {value:.3f} |" for name, value in sorted(description["measured"].items()))
    made_by = "\n".join(f"- {name}: `{value}`" for name, value in sorted(description["made_by"].items()))
    return f"""---
library_name: sentence-transformers
tags: [influcoder, training-data-attribution, influence]
---
# Influence encoder ({description["tier"]} tier)

Estimates how much training on an example would raise the likelihood of another one's completion.

```python
from influcoder import InfluenceEncoder

encoder = InfluenceEncoder.load("THIS_FOLDER")
```

`backbone/` is a plain Sentence Transformers folder and loads without Influcoder.

## Agreement with its teacher on validation examples

| metric | value |
|---|---|
{measured}

## Made from

{made_by}
"""
